"""Secrets, without their values once they are stored."""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A secret, without its values."""

    name: str
    keys: tuple[str, ...]
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretList:
    """Every secret."""

    secrets: tuple[StoredSecret, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret to create."""

    name: str
    values: dict[str, str] = field(repr=False)  # by the name of its variable
    force: bool = False  # replace the values of one that exists


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeys:
    """A secret that was created."""

    name: str
    keys: tuple[str, ...]
