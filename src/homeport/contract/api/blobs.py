"""Uploaded files, by their hash."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """Files that a manifest names."""

    hashes: tuple[str, ...]  # SHA-256 in hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The hashes of the files that the server does not have."""

    missing: tuple[str, ...]  # SHA-256 in hex
