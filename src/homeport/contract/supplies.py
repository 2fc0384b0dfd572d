"""The secrets and volumes that the control plane gives to the steps of an image besides their arguments.

A step names them by their positions, because a manifest must not hold the values of secrets and the control plane
knows which volume a name means. The positions count from the image's first step on.
"""

from collections.abc import Mapping
from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.image import Step
from homeport.contract.manifest import VolumeMount


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSecret:
    """The variables of one secret."""

    name: str = ""  # in the store; empty if the values came with the script
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplies:
    """The secrets and volumes of the steps of one image."""

    secrets: tuple[BuildSecret, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()

    def secrets_of(self, step: Step) -> list[BuildSecret]:
        """Return the secrets that a step names; a position that does not exist is ignored."""
        return [self.secrets[n] for n in step.args.get("secrets", ()) if n < len(self.secrets)]

    def volumes_of(self, step: Step) -> list[VolumeMount]:
        """Return the volumes that a step names."""
        return [self.volumes[n] for n in step.args.get("volumes", ()) if n < len(self.volumes)]

    def environ(self, step: Step) -> dict[str, str]:
        """Return the variables of a step's secrets; a later secret wins."""
        merged: dict[str, str] = {}
        for secret in self.secrets_of(step):
            merged.update(secret.values)
        return merged

    @property
    def hidden(self) -> list[str]:
        """The values that no line of a build may show."""
        return [value for secret in self.secrets for value in secret.values.values()]
