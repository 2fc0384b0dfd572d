"""Gives hosts a certificate before their URL answers. Without TLS, nothing does this."""

from collections.abc import Collection
from typing import Protocol


class Covering(Protocol):
    """Certificates of hosts, for the modules that make hosts answer."""

    async def cover(self, hosts: Collection[str]) -> None:
        """Return when these hosts have certificates, if they can have them at once."""

    def wake(self) -> None:
        """Look again, because hosts were added or removed."""


class Uncovered:
    """No certificates."""

    async def cover(self, hosts: Collection[str]) -> None:
        """Do nothing."""

    def wake(self) -> None:
        """Do nothing."""
