"""What gives hosts a certificate before their URL answers. Without TLS nothing does."""

from collections.abc import Collection
from typing import Protocol


class Covering(Protocol):
    """Certificates of hosts, as those see them that make hosts answer."""

    async def cover(self, hosts: Collection[str]) -> None:
        """Return when these hosts have certificates, if they can have them at once."""

    def wake(self) -> None:
        """Hear that hosts have come or gone."""


class Uncovered:
    """No certificates."""

    async def cover(self, hosts: Collection[str]) -> None:
        """Do nothing."""

    def wake(self) -> None:
        """Do nothing."""
