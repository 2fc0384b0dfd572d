"""Machines of a Ray cluster: homeport asks for them, has agents started on them, and forgets those that Ray has removed.

Ray is in a child process (homeport/growth). When it ends, nothing else does; it is started again. Ray is not asked
whether a machine is alive: the agent's own connection says so, and sooner (docs/decisions.md, 67).
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from homeport.contract import codec
from homeport.contract.errors import Failure
from homeport.contract.growth import Joining, RayMachine, Seen, Wanted
from homeport.contract.labels import REGION
from homeport.control.fleet import lacking
from homeport.control.fleet.machines import Machines
from homeport.control.fleet.mirror import Health
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pool import now
from homeport.control.fleet.pools import Pools
from homeport.supervised import Tasks, supervised

CHILD = (sys.executable, "-P", "-m", "homeport.growth")
AGAIN_S = 60.0  # before an agent is started again on a machine
END_S = 2.0
SILENT_S = 45.0  # the child process writes once a second, and waits for Ray with each line
MOST_LINE_BYTES = 2**26  # each line has all machines

T = TypeVar("T")
log = logging.getLogger(__name__)


class RayLost(Exception):
    """The child process has ended"""


class Growing:
    """One Ray cluster."""

    def __init__(
        self,
        address: str,
        pools: Pools,
        nodes: Nodes,
        machines: Machines,
        *,
        log_file: Path,
        words: Sequence[str] = CHILD,
        silent_s: float = SILENT_S,
    ) -> None:
        self._address, self._words, self._log_file = address, words, log_file
        self._silent_s = silent_s
        self._pools, self._nodes, self._machines = pools, nodes, machines
        self._begun: dict[str, tuple[float, Joining]] = {}  # by the node's name: when, and how
        self._ours: set[str] = set()  # nodes that Ray had since this server was started
        self._sent: Wanted | None = None
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to speak with Ray, and again whenever the child process has ended."""
        self._tasks.start("ray", supervised("ray", self._run, expected=RayLost))

    async def close(self) -> None:
        """End the child process; machines and agents stay."""
        await self._tasks.close()

    async def _run(self) -> None:
        self._sent = None
        with self._log_file.open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *(*self._words, self._address),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                limit=MOST_LINE_BYTES,
            )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            while line := await self._in_time(child.stdout.readline()):
                seen = codec.loads(Seen, line)
                self._machines.ray_trouble = ""
                if self._sent is None:
                    log.info(
                        "the Ray cluster at %s has %d machines", self._address, len(seen.machines)
                    )
                wanted = await self.wanted(seen)
                if wanted != self._sent:
                    child.stdin.write(codec.line(wanted))
                    with contextlib.suppress(ConnectionError):  # its end, which the next line is
                        await self._in_time(child.stdin.drain())
                    self._sent = wanted
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            code = await asyncio.shield(child.wait())
        text = f"the process for the Ray cluster at {self._address} has ended with {code}"
        self._machines.ray_trouble = text
        raise RayLost(f"{text}: {self._log_file} says why")

    async def _in_time(self, answer: Awaitable[T]) -> T:
        """Return what the child process answers; `RayLost` if Ray holds it up for too long."""
        try:
            async with asyncio.timeout(self._silent_s):
                return await answer
        except TimeoutError:
            text = f"the Ray cluster at {self._address} does not answer"
            self._machines.ray_trouble = text
            raise RayLost(f"{text}: no machine is asked for") from None

    async def wanted(self, seen: Seen) -> Wanted:
        """Take in which machines there are, and return what is wanted of Ray."""
        names = lacking.names(seen.machines)
        own = next((machine for machine in seen.machines if machine.is_own), None)
        for ray_id, name in names.items():
            await self._join(ray_id, name, own)
        for machine in seen.machines:
            await self._label(names.get(machine.id, ""), machine)
        await self._forget(set(names.values()))
        self._ours |= set(names.values())
        busy = [
            machine
            for machine in seen.machines
            if (mirror := self._nodes.mirrors.get(names.get(machine.id, ""))) and mirror.containers
        ]
        addable = self._nodes.addable
        full = [lacking.full(machine, addable) for machine in (*busy, *([own] if own else []))]
        lacks = lacking.bundles(self._pools, self._nodes.capacities(), addable, now())
        return Wanted(
            bundles=(*filter(None, full), *lacks),
            busy=tuple(machine.id for machine in busy),
            joining=tuple(joining for _at, joining in self._begun.values()),
        )

    async def _join(self, ray_id: str, name: str, own: RayMachine | None) -> None:
        """Have an agent started on a machine whose node is not there; not again and again."""
        mirror = self._nodes.mirrors.get(name)
        if mirror is not None and mirror.health is Health.READY:
            self._begun.pop(name, None)
            return
        last_try = self._begun.get(name)
        if last_try is not None and now() - last_try[0] < AGAIN_S:
            return
        if own is None or (mirror is not None and mirror.health is not Health.GONE):
            return
        joining = Joining(ray_id=ray_id, name=name)
        if all(row.name != name for row in self._machines.every()):
            try:
                token, listens = await self._machines.token(None)
            except Failure as failure:
                log.warning("no agent can be started on `%s`: %s", name, failure.message)
                return
            host = own.host if listens.host in ("0.0.0.0", "::") else listens.host  # noqa: S104 - any address
            address = f"{host}:{listens.port}"
            joining = Joining(ray_id=ray_id, name=name, address=address, token=token)
        log.info("Ray has the machine `%s`: its agent is started", name)
        self._begun[name] = now(), joining

    async def _label(self, name: str, machine: RayMachine) -> None:
        """Give a machine the region of its type, unless somebody has given it one."""
        kind = self._nodes.addable.of(machine.resources)
        if kind is None or not kind.region:
            return
        row = next((row for row in self._machines.every() if row.name == name), None)
        if row is not None and REGION not in row.labels:
            await self._machines.label(name, {REGION: kind.region})

    async def _forget(self, names: set[str]) -> None:
        """Remove the nodes whose machines Ray has removed, once they do not answer either."""
        for name in self._ours - names:
            mirror = self._nodes.mirrors.get(name)
            if mirror is not None and mirror.health is not Health.GONE:
                continue
            if mirror is not None:
                log.info("Ray has removed the machine `%s`", name)
                await self._machines.remove(name)  # if that fails, the next look tries again
            self._ours.discard(name)
            self._begun.pop(name, None)
