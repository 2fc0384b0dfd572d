"""Resolves a name by DNS, and compares its addresses with those of this server."""

import asyncio
import contextlib
import importlib
import ipaddress
import logging
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.control.certificates.hosts import is_wildcard

TIME_S = 5.0  # for a look-up, with the wait for its turn
AT_ONCE = 64
MOST = 1000  # answers that are kept
LONGEST_S = 60.0  # how long a good answer is kept, if DNS allows it
BAD_S = 5.0  # and a bad one: the user may be about to add the record
HOSTS = Path("/etc/hosts")

#: Empty: the name does not exist. None: it is not known.
Addresses = tuple[str, ...] | None

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointing:
    """The addresses of a name, and those of this server."""

    addresses: tuple[str, ...] | None  # its addresses; None: DNS does not answer
    expected: tuple[str, ...]  # this server's public ones; empty: unknown

    @property
    def is_here(self) -> bool | None:
        """Return whether the name leads to this server; None if that cannot be known."""
        if self.addresses is None or (self.addresses and not self.expected):
            return None
        return any(address in self.expected for address in self.addresses)


class Resolver:
    """Asks a name server, or those of this machine. No look-up takes a thread, so one without an answer stops nothing."""

    def __init__(
        self, server: str = "", addresses: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`server`: `address:port` of a name server; `addresses`: this server's, with commas."""
        self._server = server
        self._given = tuple(filter(None, (part.strip() for part in addresses.split(","))))
        self._clock = clock
        self._answers: dict[str, tuple[float, Addresses]] = {}  # name -> until when, and what
        self._asking: dict[str, asyncio.Task[Addresses]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    async def pointing(self, name: str) -> Pointing:
        """Return the addresses of a name; of a wildcard, those of some name below it."""
        expected = self._given or await asyncio.to_thread(_own_addresses)
        return Pointing(addresses=await self.addresses(name), expected=expected)

    async def addresses(self, name: str) -> Addresses:
        """Return a name's addresses; none if the name does not exist, and None if DNS does not answer.

        An answer is kept for as long as DNS says, at most a minute; and a bad one for a few seconds.
        """
        until, cached = self._answers.get(name, (0.0, None))
        if self._clock() < until:
            return cached
        if name not in self._asking:
            task = self._asking[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(self._asking[name])

    async def _ask(self, name: str) -> Addresses:
        addresses: Addresses = None
        cache_s = BAD_S
        # Of a wildcard, some name that was never looked up.
        host = f"{secrets.token_hex(6)}{name[1:]}" if is_wildcard(name) else name
        try:
            async with asyncio.timeout(TIME_S), self._free:
                addresses, cache_s = await self._looked_up(host)
        except (TimeoutError, OSError, ValueError) as error:
            log.info("DNS does not answer for %s: %s", name, error or "it takes too long")
        if len(self._answers) >= MOST:
            self._answers.clear()
        self._answers[name] = self._clock() + cache_s, addresses
        return addresses

    async def _looked_up(self, name: str) -> tuple[Addresses, float]:
        """Return a name's addresses, and how long to keep them."""
        if not self._server and (local := await asyncio.to_thread(_in_hosts_file, name)):
            return local, BAD_S
        if "dns.asyncresolver" not in sys.modules:  # it takes 0.1 s, in which the loop must serve
            await asyncio.to_thread(importlib.import_module, "dns.asyncresolver")
        import dns.asyncresolver
        import dns.exception
        import dns.resolver

        resolver = dns.asyncresolver.Resolver(configure=not self._server)
        if self._server:
            host, _, port = self._server.rpartition(":")
            resolver.nameservers = [host.strip("[]") or self._server]
            resolver.port = int(port) if host else 53
        addresses: set[str] = set()
        cache_s = LONGEST_S
        for kind in ("A", "AAAA"):
            try:
                answer = await resolver.resolve(name + ".", kind, lifetime=TIME_S)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            except dns.exception.DNSException as error:
                raise OSError(str(error)) from None
            addresses |= {record.address for record in answer}
            if answer.rrset is not None:
                cache_s = min(cache_s, answer.rrset.ttl)
        return tuple(sorted(addresses)), cache_s if addresses else BAD_S


def _in_hosts_file(name: str) -> tuple[str, ...]:
    """Return a name's addresses in this machine's own list, which programs ask before DNS."""
    addresses = set()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in HOSTS.read_text().splitlines():
            address, *names = line.partition("#")[0].split() or ("",)
            if name in (alias.lower() for alias in names):
                addresses.add(address)
    return tuple(sorted(addresses))


def _own_addresses() -> tuple[str, ...]:
    """Return this machine's addresses that the internet can reach; none behind NAT."""
    import psutil

    public = (
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    )
    return tuple(
        sorted(address_ for address_ in public if ipaddress.ip_address(address_).is_global)
    )
