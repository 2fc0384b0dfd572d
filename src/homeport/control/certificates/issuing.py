"""Certificates by the local CA: one for an endpoint's hosts before its URL answers, renewed while the server runs.

`Endpoints` and `Tunnels` call `cover` before they route. A host that the CA may not sign for stays without a certificate:
its endpoint answers by HTTP, and the log says why.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection

from homeport.contract import hosts as names
from homeport.contract.errors import Failure
from homeport.contract.roles import Ingress
from homeport.control.certificates.local import DAYS, RESERVED, Local, permitted
from homeport.supervised import Tasks, supervised

PREFIX = "local-"
RENEW_S = DAYS * 24 * 3600 * 2 / 3
LOOK_S = 3600.0

log = logging.getLogger(__name__)


class Issuing:
    """The certificates of a local CA that the ingress has."""

    def __init__(
        self,
        ca: Local,
        ingress: Ingress,
        domain: str,
        known: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`known`: certificates of an earlier server, which `open` removes if nothing has asked for them again."""
        self._ca = ca
        self._ingress = ingress
        self._domain = domain
        self._known = set(known)
        self._clock = clock
        self._issued: dict[str, tuple[tuple[str, ...], float]] = {}  # name -> its hosts, and when
        self._refused: set[str] = set()
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    async def start(self) -> None:
        """Read or make the CA, and sign for homeport's own domain."""
        await asyncio.to_thread(self._ca.open)
        # No client accepts a wildcard for all of a top level such as `localhost`.
        every = (f"*.{self._domain}",) if "." in self._domain else ()
        await self.cover((self._domain, *every))

    async def open(self) -> None:
        """Remove what an earlier server has left, and renew from now on."""
        for name in sorted(self._known - set(self._issued)):
            await self._ingress.remove_certificate(name)
        self._tasks.start("local certificates", supervised("local certificates", self._loop))

    async def close(self) -> None:
        """Stop renewing."""
        await self._tasks.close()

    async def cover(self, hosts: Collection[str]) -> None:
        """Give the ingress a certificate for these hosts, unless it has one. Never raises for a host."""
        async with self._turn:
            covered = [name for held, _ in self._issued.values() for name in held]
            missing = [host.lower() for host in hosts if not names.covers(covered, host.lower())]
            for host in missing:
                if not permitted(host, self._domain) and host not in self._refused:
                    self._refused.add(host)
                    log.warning(
                        "%s gets no certificate: the local CA signs for names below %s alone",
                        host,
                        ", ".join((self._domain, *RESERVED)),
                    )
            wanted = tuple(host for host in missing if permitted(host, self._domain))
            if wanted:
                await self._issue(wanted)

    async def renew(self) -> None:
        """Renew each certificate that is two thirds through."""
        async with self._turn:
            for held, at in [*self._issued.values()]:
                if self._clock() - at >= RENEW_S:
                    await self._issue(held)

    async def _issue(self, hosts: tuple[str, ...]) -> None:
        name = PREFIX + hashlib.sha256(" ".join(hosts).encode()).hexdigest()[:16]
        try:
            await self._ingress.certificate(name, await self._ca.issue(hosts), hosts)
        except Failure as error:
            log.error("no certificate for %s: %s", ", ".join(hosts), error)  # noqa: TRY400 - the cause is in it
            return
        self._issued[name] = hosts, self._clock()

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.renew()
