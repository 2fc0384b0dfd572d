"""The secrets and volumes that a build's steps were given, and the values that they add to a layer's key."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from homeport.cell.description import Bind
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.contract.image import Step
from homeport.contract.supplies import BuildSecret, Supplies

SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied:
    """The supplies of one image, on this node."""

    supplies: Supplies
    volumes: Path  # the files of volumes: `<workspace>/<environment>/<id>/files` below it
    salt: bytes  # of this home: without it, values cannot be tested against a layer's key

    def environ(self, step: Step) -> dict[str, str]:
        """Return the variables of a step's secrets."""
        return self.supplies.environ(step)

    @property
    def hidden(self) -> Sequence[str]:
        """The values that no line of a build may show: those of all steps, as a file may hold them."""
        return self.supplies.hidden

    def key_parts(self, step: Step) -> list[object]:
        """Return the values that a step's secrets and volumes add to the key of its layer.

        An app must not get a layer that another app has built with other secrets: with another index, for
        example, or from a registry that it may not read. A secret of the store counts by its name, so that a new
        value builds nothing again; other secrets count by their values.
        """
        secrets = [self._secret(secret) for secret in self.supplies.secrets_of(step)]
        volumes = [[mount.path, mount.key] for mount in self.supplies.volumes_of(step)]
        return [["given", secrets, volumes]] if secrets or volumes else []

    def binds(self, step: Step) -> list[Bind]:
        """Return the volumes of a step, as its cell shows them. Their files belong to the ids of cells."""
        return [
            Bind(str(self._directory(mount.key, mount.name, step)), mount.path, not mount.read_only)
            for mount in self.supplies.volumes_of(step)
        ]

    def _directory(self, key: str, name: str, step: Step) -> Path:
        directory = self.volumes / key / "files"
        if not key or not directory.is_dir():
            raise ImageError(
                f"the volume `{name}` was deleted",
                where=step.where,
                hint="deploy the app again",
            )
        return directory

    def _secret(self, secret: BuildSecret) -> str:
        if secret.name:
            return f"name {secret.name}"
        text = json.dumps(sorted(secret.values.items())).encode()
        return "values " + hashlib.sha256(self.salt + text).hexdigest()


def salt(path: Path) -> bytes:
    """Return the salt of a home, which is made at the first use. Blocks."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(os.urandom(SALT_BYTES))
    except FileExistsError:
        pass
    return path.read_bytes()
