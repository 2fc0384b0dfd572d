"""What the agents of other machines say of themselves, asked when they connect and every 15 seconds.

`homeport node list` shows it, and findings and metrics are made of it. An agent may lie about its own machine, and of no other.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure
from homeport.contract.traffic import Peer

if TYPE_CHECKING:
    from homeport.link.calls import About
    from homeport.link.remote import RemoteNode

EVERY_S = 15.0
ANSWER_S = 5.0
VERSION_CHARS = 40
REASON_CHARS = 200
MOST_PORTS = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """How a machine was at the last look."""

    version: str  # of its homeport
    clock_off_s: (
        float  # how far its clock is ahead of this one; right within half of the way there and back
    )
    free_bytes: int  # on the disk of its home
    certificate_until: float
    shared_volumes: str  # `link.volumes.reported`
    entrance: tuple[int, ...] = ()  # as in `About`
    no_entrance: str = ""
    cannot_call: str = ""
    #: Why its containers cannot be reached: an address, and what a connection to it meets.
    unreached: str = ""


class Facts:
    """The last facts of each machine."""

    def __init__(
        self,
        remotes: "Mapping[str, RemoteNode]",
        clock: Callable[[], float] = time.time,
        learned: Callable[[str], None] = lambda _name: None,
        peer_of: Callable[[str], Peer | None] = lambda _name: None,
    ) -> None:
        """`learned` is called with the name of each machine that has answered; `peer_of` returns where its containers are."""
        self._peer_of = peer_of
        self._remotes, self._clock, self._learned = remotes, clock, learned
        self._facts: dict[str, Fact] = {}
        self._wanted = asyncio.Event()

    def of(self, name: str) -> Fact | None:
        """Return the last facts of a machine; None if it has not answered since this server was started."""
        return self._facts.get(name)

    def wake(self) -> None:
        """Look soon: an agent has connected."""
        self._wanted.set()

    async def look_again_and_again(self) -> None:
        """Ask all machines regularly; an endless loop."""
        while True:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(EVERY_S, self._wanted.set)
            await self._wanted.wait()
            timer.cancel()
            self._wanted.clear()
            await self.look()

    async def look(self) -> None:
        """Ask each machine that is connected; a machine that does not answer keeps its last facts."""
        for name in self._facts.keys() - self._remotes.keys():
            del self._facts[name]
        connected = [remote for remote in self._remotes.values() if remote.connected.is_set()]
        await asyncio.gather(*(self._ask(remote) for remote in connected))

    async def _ask(self, remote: "RemoteNode") -> None:
        began_at = self._clock()
        try:
            async with asyncio.timeout(ANSWER_S):
                about = await remote.about()
        except (Failure, TimeoutError) as error:
            log.debug("the node `%s` says nothing of itself: %s", remote.name, error)
            return
        now = (began_at + self._clock()) / 2
        from homeport.link import reaching  # a server without machines imports nothing of it

        peer = self._peer_of(remote.name)
        unreached = "" if peer is None else await reaching.unreached(peer.host, peer.port)
        # It may have been removed meanwhile, and another machine may have joined by its name.
        if self._remotes.get(remote.name) is remote:
            self._facts[remote.name] = _fact(about, now, unreached)
            self._learned(remote.name)


def _fact(about: "About", now: float, unreached: str) -> Fact:
    version = _printable(about.homeport, VERSION_CHARS)
    return Fact(
        version=version,
        clock_off_s=about.now - now,
        free_bytes=max(about.free_bytes, 0),
        certificate_until=about.certificate_until,
        shared_volumes=about.shared_volumes,
        entrance=about.entrance[:MOST_PORTS],
        no_entrance=_printable(about.no_entrance, REASON_CHARS),
        unreached=unreached,
        cannot_call=_printable(about.cannot_call, REASON_CHARS),
    )


def _printable(text: str, chars: int) -> str:
    return "".join(filter(str.isprintable, text))[:chars]
