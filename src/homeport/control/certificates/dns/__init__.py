"""The TXT records of DNS-01: set and removed by RFC 2136, by a command of the user's, or by dns-lexicon.

A provider is imported when it is used. A record may have several values at once: `example.com` and `*.example.com` are
validated by the same name.
"""

from typing import Protocol

#: Seconds, because a record lives a minute.
TTL_S = 30


class Records(Protocol):
    """Sets TXT records."""

    async def add(self, name: str, value: str) -> None:
        """Add a value to `_acme-challenge.…`; return when the zone's servers answer with it."""

    async def remove(self, name: str, value: str) -> None:
        """Remove this value alone; nothing happens if it is not there."""
