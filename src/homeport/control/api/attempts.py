"""Counts wrong tokens by the address that they come from."""

import ipaddress
import time
from collections.abc import Callable

MOST = 10  # wrong tokens of one address in WINDOW_S
WINDOW_S = 60.0
ADDRESSES = 10_000  # that are remembered
PREFIX_V6 = 64  # bits of an IPv6 address that belong to one visitor


class WrongTokens:
    """The addresses that have sent wrong tokens."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: dict[str, tuple[int, float]] = {}  # address -> how many, and since when

    def blocked_s(self, source: str) -> float:
        """Return in how many seconds an address may try again; 0: it may now."""
        count, since = self._counts.get(_visitor(source), (0, 0.0))
        left_s = since + WINDOW_S - self._now()
        return left_s if count >= MOST and left_s > 0 else 0.0

    def add(self, source: str) -> bool:
        """Count a wrong token; return True if the address is blocked from now on."""
        key, now = _visitor(source), self._now()
        count, since = self._counts.pop(key, (0, now))
        if now - since >= WINDOW_S:
            count, since = 0, now
        self._counts[key] = count + 1, since
        while len(self._counts) > ADDRESSES:
            del self._counts[next(iter(self._counts))]
        return count + 1 == MOST


def _visitor(source: str) -> str:
    """Return what one visitor has: an IPv4 address, or a network of IPv6."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), PREFIX_V6), strict=False))
    return str(address)
