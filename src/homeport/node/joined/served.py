"""The agent's side of the connection: carries out the calls of the control plane, and reports changes and log lines."""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from homeport.contract.container import Container, LogLine, State
from homeport.contract.errors import Failure, NodeLost, NotFound, StartError, TooMany
from homeport.contract.listing import Change
from homeport.contract.programs import Program
from homeport.link.calls import Written
from homeport.link.frames import Broken
from homeport.link.messages import Changed, Kept, Refused
from homeport.link.session import Session
from homeport.node.agent import Agent
from homeport.node.joined.itself import Itself
from homeport.node.joined.lines import Lines
from homeport.node.joined.trees import Trees
from homeport.supervised import Tasks, supervised

MOST_PROGRAMS = 32
SWEEP_S = 600.0

log = logging.getLogger(__name__)


class Served:
    """One agent and its connection of the moment."""

    def __init__(
        self,
        agent: Agent,
        home: Path,
        lead: Callable[[Mapping[str, str]], Awaitable[None]],
        itself: Itself,
    ) -> None:
        """`lead` makes the ingress reach exactly these containers: a label -> an address (`PeerPort.lead`)."""
        self.refused: Refused | None = None  # the control plane's last word
        self.trees = Trees(home / "revisions", home / "files", self.ask)
        self._agent, self._itself = agent, itself
        self._lead, self._changes = lead, asyncio.Queue[Change]()
        self._reached: dict[str, Container] = {}
        self._session: Session | None = None
        self._lines = Lines()
        self._programs: dict[int, Program] = {}
        self._numbers = itertools.count(1)
        self._tasks = Tasks()
        self._emptied = asyncio.Event()
        self._is_flushing = False
        self._swept_at = 0.0
        agent.watch(self._changes.put_nowait, self._on_line)
        agent.fetch_sources(self._fetched)

    async def open(self) -> None:
        """Make the ingress reach the containers of an earlier agent, and report changes from now on."""
        for container in (await self._agent.list()).containers:
            self._note(container)
        await self._lead(self._addresses())
        self._tasks.start("changes", supervised("changes", self._report))

    # its connection

    def attach(self, session: Session) -> None:
        """Report over this connection from now on; first what was under way when the last one was lost."""
        self._session = session
        for batch in self._lines.again():
            session.send(batch, bulk=True)
        self._flush()

    async def detach(self) -> None:
        """Forget the connection; programs of users that ran over it end."""
        self._session = None
        programs, self._programs = self._programs, {}
        for program in programs.values():
            self._tasks.start("a program ends with its connection", program.close())

    @property
    def silent_s(self) -> float:
        """How long the control plane has said nothing; without a connection, for ever."""
        session = self._session
        return math.inf if session is None else asyncio.get_running_loop().time() - session.heard_at

    async def settled(self, within_s: float) -> None:
        """Return when the control plane has all log lines, or after this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changes.join()
                while self._session is not None and self._lines.size_bytes:
                    self._emptied.clear()
                    await self._emptied.wait()

    async def close(self) -> None:
        """Stop all that is under way."""
        await self.detach()
        await self._tasks.close()

    async def ask(self, name: str, given: dict[str, Any]) -> Any:
        """Call the control plane; `NodeLost` without a connection."""
        if self._session is None:
            raise NodeLost("the control plane is not connected")
        return await self._session.ask(name, given)

    def hear(self, message: Any) -> None:
        """Take a message that is neither a call nor an answer."""
        if isinstance(message, Kept):
            self._lines.confirmed(message.number)
            self._emptied.set()
            self._flush()
        elif isinstance(message, Refused):
            self.refused = message
            raise Broken(message.reason)
        else:
            raise Broken(f"a control plane sends no {type(message).__name__.lower()}")

    # reports

    async def _report(self) -> None:
        """Report each change, in their order: of a container that is ready when the ingress can reach it."""
        while True:
            change = await self._changes.get()
            if self._note(change.container):
                try:
                    await self._lead(self._addresses())
                except Failure as failure:
                    log.warning("containers cannot be reached: %s", failure)
            self._changed(change)
            self._changes.task_done()

    def _note(self, container: Container) -> bool:
        """Keep a container while it can be reached; return whether something has changed."""
        before = self._addresses()
        if container.state in (State.READY, State.DRAINING):
            self._reached[container.id] = container
        else:
            self._reached.pop(container.id, None)
        return before != self._addresses()

    def _addresses(self) -> dict[str, str]:
        addresses = {}
        for container in self._reached.values():
            addresses[container.id] = container.address
            addresses |= {tunnel.name: tunnel.address for tunnel in container.tunnels}
        return {label: address for label, address in addresses.items() if address}

    def _changed(self, change: Change) -> None:
        session = self._session
        if session is None:
            return  # the control plane asks for the list when it is back
        container = change.container
        outward = dataclasses.replace(container, order=self._outward(container.order))
        with contextlib.suppress(NodeLost):
            session.send(Changed(change=dataclasses.replace(change, container=outward)))

    def _outward(self, order: Any) -> Any:
        return dataclasses.replace(order, source=Path(order.source).name if order.source else "")

    def _on_line(self, line: LogLine) -> None:
        self._lines.add(line)
        if not self._is_flushing:  # once for all lines of this turn of the loop
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        while self._session is not None and (batch := self._lines.batch()) is not None:
            with contextlib.suppress(NodeLost):
                self._session.send(batch, bulk=True)

    # calls

    async def serve(self, name: str, given: dict[str, Any], say: Callable[[str], None]) -> Any:
        """Carry out a call of the control plane."""
        if name == "start":
            order = given["order"]
            local = dataclasses.replace(order, source=self.trees.place(order.source))
            return await self._agent.start(local, given["environ"])
        if name == "stop":
            return await self._agent.stop(given["container"], grace_s=given["grace_s"])
        if name == "list":
            return await self._listing()
        if name == "prepare":
            return await self._prepare(given, say)
        if name == "about":
            return await self._itself.about()
        if name == "logs":
            return await self._itself.log.read(given["tail"], follow=given["follow"], say=say)
        if name == "execute":
            return await self._execute(**given)
        if name.startswith("program_"):
            return await self._program(name.removeprefix("program_"), **given)
        value = await getattr(self._agent, name)(**given)
        return tuple(value) if name in ("environments", "prune") else value

    async def _listing(self) -> Any:
        listing = await self._agent.list()
        for container in listing.containers:
            self._note(container)
        await self._lead(self._addresses())
        if time.monotonic() - self._swept_at > SWEEP_S:
            self._swept_at = time.monotonic()
            used = {container.order.source for container in listing.containers}
            work = asyncio.to_thread(self.trees.sweep, used, time.time())
            self._tasks.start("sweeping source trees", work)
        containers = tuple(
            dataclasses.replace(container, order=self._outward(container.order))
            for container in listing.containers
        )
        return dataclasses.replace(listing, containers=containers)

    async def _prepare(self, given: dict[str, Any], say: Callable[[str], None]) -> None:
        source = self.trees.place(given["source"])
        try:
            await self.trees.fetched_for_build(source)
            await self._agent.prepare(given["image"], source, given["supplies"], say)
        finally:
            await asyncio.to_thread(self.trees.end_build, source)

    async def _fetched(self, source: str) -> None:
        try:
            await self.trees.fetched(source)
        except Exception as error:
            why = getattr(error, "message", "") or str(error) or type(error).__name__
            raise StartError(f"its files could not be fetched: {why}") from None

    async def _execute(self, container: str, order: Any, environ: dict[str, str]) -> int:
        if len(self._programs) >= MOST_PROGRAMS:
            raise TooMany(f"{MOST_PROGRAMS} programs run in this node's containers already")
        session = self._session
        program = await self._agent.execute(container, order, environ)
        if self._session is not session:  # it was lost meanwhile: nobody would end the program
            await program.close()
            raise NodeLost("the connection was lost")
        number = next(self._numbers)
        self._programs[number] = program
        return number

    async def _program(self, what: str, program: int, **given: Any) -> Any:
        if (running := self._programs.get(program)) is None:
            raise NotFound("the program has ended, or its connection was lost")
        if what == "read":
            where, data = await running.read()
            return Written(where=where, data=data)
        if what == "close":
            del self._programs[program]
        return await getattr(running, what)(**given)
