"""`RemoteNode`: the role `Node` for a machine that is joined, over its connection.

The `Listener` attaches a session when the node's agent connects. Without one each call raises `NodeLost` at once, and the
mirror does the rest: suspect, gone, the list again, fenced.
"""

import asyncio
import dataclasses
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from homeport.contract.capacity import Usage
from homeport.contract.container import Container, LogLine, StartOrder
from homeport.contract.errors import NodeLost
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order, Program
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import Peer, PoolKey
from homeport.link import trust
from homeport.link.calls import About, Written
from homeport.link.frames import Broken
from homeport.link.messages import Changed, Kept, Logs
from homeport.link.offered import Offered
from homeport.link.seals import Sealer
from homeport.link.session import Session

MOST_REFUSED = 1000  # containers whose refusal is remembered
LOG_EACH_S = 10.0
LIVES_S = 0.9  # for a machine to take a connection
MOST_GENERATIONS = 2**53  # the control plane counts on from there, and stores it

log = logging.getLogger(__name__)


class RemoteNode:
    """A node of another machine."""

    def __init__(
        self,
        name: str,
        sources: Path,
        sealer: Sealer,
        *,
        is_elsewhere: Callable[[str], bool] = lambda _container: False,
    ) -> None:
        """`sources`: the directory of all source trees. `is_elsewhere`: whether another node has a container."""
        self.name = name
        self.offered = Offered(sources)
        self.connected = asyncio.Event()
        self.came: Callable[[], None] = lambda: None  # called when its agent has connected
        self.shares_volumes = False  # so its containers may have volumes
        self._sources, self._is_elsewhere = sources, is_elsewhere
        self._reports = trust.Reports(name, sources, sealer)
        self._refused: OrderedDict[str, None] = (
            OrderedDict()
        )  # containers that no order to this node was for
        self._changed: Callable[[Change], None] = lambda _change: None
        self._said: Callable[[LogLine], None] = lambda _line: None
        self._session: Session | None = None
        self._there: Peer | None = None
        self._run = ""  # of the agent whose log lines were taken last
        self._kept = -1
        self._logged_at = -LOG_EACH_S

    # its connection

    def attach(self, session: Session, run: str, there: Peer | None) -> None:
        """Use a new connection; `run` is another text for each process of the agent.

        `there`: where the ingress connects to its containers; None: it cannot, so the node has no place for containers.
        """
        self._there, self._reports.reached = there, there is not None
        if run != self._run:
            self._run, self._kept = run, -1
        self._session = session
        self.connected.set()
        self.came()

    def detach(self, session: Session) -> None:
        """Forget a connection that is lost."""
        if self._session is session:
            self._session = None
            self.connected.clear()

    def hear(self, message: Any) -> None:
        """Take a message of the agent that is neither a call nor an answer; `Broken` if it is not valid."""
        if isinstance(message, Changed):
            change = message.change
            if self._is_elsewhere(change.container.id):
                raise Broken(f"it reports `{change.container.id[:40]}`, which another node has")
            container = self._reports.container(change.container)
            if container is None:
                self._refuse(change.container.id)
            else:
                self._changed(dataclasses.replace(change, container=container))
        elif isinstance(message, Logs):
            self._take(message)
        else:
            raise Broken(f"an agent sends no {type(message).__name__.lower()}")

    def _refuse(self, container: str) -> None:
        """Tell the node to end a container that it was never given; the log says so once."""
        if container not in self._refused:
            self._refused[container] = None
            if len(self._refused) > MOST_REFUSED:
                self._refused.popitem(last=False)
            now = time.monotonic()
            if now - self._logged_at > LOG_EACH_S:
                self._logged_at = now
                log.warning(
                    "the node `%s` has `%s`, which this server never ordered there: it is told to end it, and others like it",
                    self.name,
                    container[:40],
                )
        self._here.tell("stop", {"container": container, "grace_s": None})

    def _take(self, logs: Logs) -> None:
        if logs.number > self._kept:
            self._kept, now = logs.number, time.time()
            for line in logs.lines:
                if (taken := self._reports.line(line, now)) is not None:
                    self._said(taken)
            if logs.dropped > 0:
                log.warning(
                    "the node `%s` had no room for %d lines of logs", self.name, logs.dropped
                )
        self._here.send(Kept(number=self._kept))

    # the role

    def watch(self, changed: Callable[[Change], None], on_line: Callable[[LogLine], None]) -> None:
        """Set the functions that are called with changes and log lines."""
        self._changed, self._said = changed, on_line

    async def mark(self) -> Mark:
        """Return the mark of the node's last change."""
        mark: Mark = await self._here.ask("mark")
        return mark

    async def lives(self) -> bool:
        """Return whether its machine takes connections at the port that leads to its containers."""
        if self._there is None:
            return False
        try:
            async with asyncio.timeout(LIVES_S):
                _, writer = await asyncio.open_connection(self._there.host, self._there.port)
        except OSError:  # a TimeoutError is one
            return False
        writer.transport.abort()
        return True

    async def list(self) -> Listing:
        """Return the node's containers, as the control plane takes them."""
        session = self._here
        listing: Listing = await session.ask("list")
        try:
            containers = tuple(self._believed(listing))
        except Broken as broken:
            session.cut(str(broken))
            raise NodeLost(f"the node `{self.name}`: {broken}") from None
        places = max(0, listing.capacity.places) if self._reports.reached else 0
        has_mounts = listing.capacity.has_mounts and self.shares_volumes
        capacity = dataclasses.replace(listing.capacity, places=places, has_mounts=has_mounts)
        return dataclasses.replace(
            listing,
            containers=containers,
            capacity=capacity,
            generation=min(listing.generation, MOST_GENERATIONS),
        )

    def _believed(self, listing: Listing) -> Iterator[Container]:
        """Yield the containers that the node was given; the others are told to end."""
        for reported in listing.containers:
            if self._is_elsewhere(reported.id):
                continue
            if (container := self._reports.container(reported)) is None:
                self._refuse(reported.id)
            else:
                yield container

    async def usage(self) -> Mapping[str, Usage]:
        """Return what each container uses."""
        used: dict[str, Usage] = await self._here.ask("usage")
        return {key: value for key, value in used.items() if not self._is_elsewhere(key)}

    async def start(self, order: StartOrder, environ: Mapping[str, str]) -> None:
        """Send the order."""
        sent_order = self._reports.ordered(order)
        self.offered.offer(sent_order.source)
        self._here.tell("start", {"order": sent_order, "environ": dict(environ)})

    async def stop(self, container: str, *, grace_s: float | None = None) -> None:
        """Send the request to end."""
        self._here.tell("stop", {"container": container, "grace_s": grace_s})

    async def execute(self, container: str, order: Order, environ: Mapping[str, str]) -> Program:
        """Run a program in a container there."""
        session = self._here
        given = {"container": container, "order": order, "environ": dict(environ)}
        return RemoteProgram(session, await session.ask("execute", given))

    async def fence(self, generation: int) -> None:
        """Have the node end what was ordered in an earlier generation."""
        await self._here.ask("fence", {"generation": generation})

    async def confirm_held(self, container: str, held: int) -> None:
        """Pass on how many slots the ingress keeps back."""
        self._here.tell("confirm_held", {"container": container, "held": held})

    async def forget(self, pool: PoolKey) -> None:
        """Have the node release what it keeps for a pool."""
        self._here.tell("forget", {"pool": pool})

    async def rest(self, unused_s: float) -> None:
        """Have the node release what it keeps for later containers."""
        self._here.tell("rest", {"unused_s": unused_s})

    async def prepare(
        self, image: Image, source: str, supplies: Supplies, say: Callable[[str], None]
    ) -> None:
        """Build the image's layers there."""
        tree = trust.tree_of(source, self._sources)
        self.offered.offer(tree)
        await self._here.ask("prepare", {"image": image, "source": tree, "supplies": supplies}, say)

    async def about(self) -> About:
        """Return how the agent and its machine are, as the agent says."""
        about: About = await self._here.ask("about")
        return about

    async def read_log(self, tail: int, *, follow: bool, say: Callable[[str], None]) -> None:
        """Say the lines of the agent's own log, several in one text; with `follow` until this is cancelled."""
        await self._here.ask("logs", {"tail": tail, "follow": follow}, say)

    async def environments(self) -> Collection[Environment]:
        """Return the layers that were built there."""
        built: tuple[Environment, ...] = await self._here.ask("environments")
        return built

    async def build_log(self, key: str) -> str | None:
        """Return the output of a layer's build there."""
        text: str | None = await self._here.ask("build_log", {"key": key})
        return text

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Delete layers there."""
        deleted: tuple[Environment, ...] = await self._here.ask("prune", {"keep": tuple(keep)})
        return deleted

    @property
    def session(self) -> Session | None:
        """Its connection; None without one."""
        return self._session

    @property
    def _here(self) -> Session:
        if self._session is None:
            raise NodeLost(f"the node `{self.name}` is not connected")
        return self._session


class RemoteProgram:
    """A program in a container of another machine; it ends with the connection."""

    def __init__(self, session: Session, number: int) -> None:
        self._session, self._number = session, number

    async def read(self) -> tuple[int, bytes]:
        """Return what it has written, and where."""
        written: Written = await self._ask("read")
        return written.where, written.data

    async def write(self, data: bytes) -> None:
        """Give it input."""
        await self._ask("write", data=data)

    async def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal."""
        await self._ask("resize", rows=rows, columns=columns)

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        await self._ask("signal", number=number)

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        code: int = await self._ask("ended")
        return code

    async def close(self) -> None:
        """End it; with the connection it has ended already."""
        if not self._session.is_lost:
            await self._ask("close")

    async def _ask(self, what: str, **given: object) -> Any:
        return await self._session.ask(f"program_{what}", {"program": self._number, **given})
