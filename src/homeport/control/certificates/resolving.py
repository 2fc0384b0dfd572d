"""Asks DNS where a name leads, and compares that with this server's addresses."""

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass

from homeport.control.certificates.hosts import is_wildcard

TIME_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointing:
    """Where a name leads."""

    found: tuple[str, ...] | None  # its addresses; None: DNS does not answer
    expected: tuple[str, ...]  # this server's public ones; empty: unknown

    @property
    def is_here(self) -> bool | None:
        """Return whether the name leads to this server; None if that cannot be known."""
        if self.found is None or (self.found and not self.expected):
            return None
        return any(address in self.expected for address in self.found)


class Resolver:
    """The system's resolver, or a name server."""

    def __init__(self, server: str = "", addresses: str = "") -> None:
        """`server`: `address:port` of a name server; `addresses`: this server's, with commas."""
        self._server = server
        self._given = tuple(filter(None, (part.strip() for part in addresses.split(","))))

    async def pointing(self, name: str) -> Pointing:
        """Return where a name leads; of a wildcard, where some name below it leads."""
        expected = self._given or await asyncio.to_thread(_own_addresses)
        return Pointing(found=await self.addresses(name), expected=expected)

    async def addresses(self, name: str) -> tuple[str, ...] | None:
        """Return a name's addresses; none if the name does not exist, and None if DNS does not answer."""
        if is_wildcard(name):
            name = f"{secrets.token_hex(6)}{name[1:]}"
        try:
            async with asyncio.timeout(TIME_S):
                found = await (self._asked(name) if self._server else _system(name))
        except (TimeoutError, OSError):
            return None
        return None if found is None else tuple(sorted(found))

    async def _asked(self, name: str) -> Collection[str] | None:
        import dns.asyncresolver
        import dns.exception
        import dns.resolver

        host, _, port = self._server.rpartition(":")
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [host.strip("[]") or self._server]
        resolver.port = int(port) if host else 53
        found: set[str] = set()
        for kind in ("A", "AAAA"):
            try:
                answer = await resolver.resolve(name + ".", kind, lifetime=TIME_S)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            except dns.exception.DNSException:
                return None
            found |= {record.address for record in answer}
        return found


async def _system(name: str) -> Collection[str] | None:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        unknown = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        return () if error.errno in unknown else None
    return {str(address[0]) for *_, address in found}


def _own_addresses() -> tuple[str, ...]:
    """Return this machine's addresses that the internet can reach; none behind NAT."""
    import psutil

    found = (
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    )
    return tuple(sorted(each for each in found if ipaddress.ip_address(each).is_global))
