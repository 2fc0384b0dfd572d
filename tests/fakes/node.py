"""The role Node in memory."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from homeport.contract.capacity import Capacity, Usage
from homeport.contract.container import Container, LogLine, StartOrder, State
from homeport.contract.errors import NodeLost, NotFound, StartError
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import PoolKey
from tests.fakes.calls import Recorded
from tests.fakes.program import FakeProgram


class FakeNode(Recorded):
    """Starts containers after `start_s`; those that `fails` names fail instead."""

    def __init__(
        self,
        start_s: float = 0.5,
        fails: Callable[[StartOrder], bool] | None = None,
        capacity: Capacity = Capacity(cores=4, memory_mib=4096),
        name: str = "here",
    ):
        super().__init__()
        self.name = name
        self.start_s = start_s
        self.deaf = False  # True: it reports no changes of containers
        self.is_cut = False  # True: it cannot be reached, but goes on running
        self.has_agent = True  # False: its machine answers, and its agent does not
        self.confirmed: list[tuple[str, int]] = []
        self.capacity = capacity
        self.started: list[StartOrder] = []
        self.most = 0  # containers at once
        self.forgotten: list[PoolKey] = []
        self.rested: list[float] = []
        self.executed: list[tuple[str, Order, dict[str, str]]] = []
        self.programs: list[FakeProgram] = []
        self.prepared: list[str] = []
        self.generation = 0
        self.used: dict[str, Usage] = {}  # what containers use, if not little
        self._fails = fails or (lambda _order: False)
        self._containers: dict[str, Container] = {}
        self._changed: Callable[[Change], None] = lambda _change: None
        self._mark = Mark(run="1")

    @property
    def containers(self) -> list[Container]:
        """Return every container that has not ended."""
        return list(self._containers.values())

    def watch(self, changed: Callable[[Change], None], on_line: Callable[[LogLine], None]) -> None:
        self._changed = changed

    async def mark(self) -> Mark:
        self._reach()
        return self._mark

    async def lives(self) -> bool:
        return not self.is_cut

    async def list(self) -> Listing:
        self._reach()
        return Listing(
            mark=self._mark,
            capacity=self.capacity,
            generation=self.generation,
            containers=tuple(self._containers.values()),
        )

    async def usage(self) -> Mapping[str, Usage]:
        self._reach()
        return {
            name: self.used.get(name, Usage(cpu_s=0.1, memory_mib=1))
            for name, container in self._containers.items()
            if container.state is not State.STARTING
        }

    async def prepare(
        self, image: Image, source: str, supplies: Supplies, say: Callable[[str], None]
    ) -> None:
        self._reach()
        async with self._call("prepare", image.key):
            self.prepared.append(image.key)

    async def build_log(self, key: str) -> str | None:
        self._reach()
        return None

    async def environments(self) -> Collection[Environment]:
        self._reach()
        return []

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        self._reach()
        async with self._call("prune"):
            return []

    async def confirm_held(self, container: str, held: int) -> None:
        self._reach()
        self.confirmed.append((container, held))

    async def start(self, order: StartOrder, environ) -> None:
        self._reach()
        self.started.append(order)
        container = Container(order=order, state=State.STARTING, node=self.name)
        if order.generation < self.generation:
            self._tell(replace(container, state=State.FAILED, reason="too late"))
            return
        self._tell(container)
        asyncio.get_running_loop().call_later(self.start_s, self._begin, order.id)

    async def stop(self, container: str, *, grace_s: float | None = None) -> None:
        self._reach()
        asyncio.get_running_loop().call_soon(self._stop, container)

    async def execute(
        self, container: str, order: Order, environ: Mapping[str, str]
    ) -> FakeProgram:
        self._reach()
        if (found := self._containers.get(container)) is None:
            raise NotFound(f"there is no container `{container}`")
        if found.state is not State.READY:
            raise StartError("it is not ready")
        self.executed.append((container, order, dict(environ)))
        self.programs.append(FakeProgram(order))
        return self.programs[-1]

    async def fence(self, generation: int) -> None:
        self._reach()
        self.generation = max(self.generation, generation)
        for old in (c.id for c in self.containers if c.order.generation < self.generation):
            asyncio.get_running_loop().call_soon(self._stop, old)

    async def rest(self, unused_s: float) -> None:
        self._reach()
        self.rested.append(unused_s)

    async def forget(self, pool: PoolKey) -> None:
        self._reach()
        self.forgotten.append(pool)

    def begin_again(self) -> None:
        """Restart its agent; the containers go on."""
        self._mark = Mark(run=str(int(self._mark.run) + 1))

    def cut(self, container: str) -> None:
        """The container has ended a response that its visitor had not read."""
        before = self._containers[container]
        self._tell(replace(before, cuts=before.cuts + 1))

    def hold(self, container: str, held: int) -> None:
        """Say how many of the container's slots have work that goes on after the response."""
        self._tell(replace(self._containers[container], held=held))

    def kill(self, container: str) -> None:
        self._end(container, State.GONE, "was killed by SIGKILL")

    def leave(self, container: str) -> None:
        """The container takes no more requests, and ends a little later."""
        self._tell(replace(self._containers[container], leaving=True))
        asyncio.get_running_loop().call_later(0.3, self._end, container, State.GONE, "it was ended")

    def _reach(self) -> None:
        if self.is_cut or not self.has_agent:
            raise NodeLost(f"the node `{self.name}` does not answer")

    def _begin(self, container: str) -> None:
        if container not in self._containers:
            return
        if self._fails(self._time(container).order):
            self._end(container, State.FAILED, "no fuel")
            return
        known = self._time(container, entered=5.0)
        self._tell(replace(known, state=State.READY, address=f"unix:/{container}"))

    def _time(self, container: str, **told_ms: float) -> Container:
        timed = {"scheduled": 0.0, "forked": 0.0, "imported": self.start_s * 1000, **told_ms}
        self._containers[container] = replace(self._containers[container], timings_ms=timed)
        return self._containers[container]

    def _stop(self, container: str) -> None:
        if (known := self._containers.get(container)) is not None:
            self._tell(replace(known, state=State.DRAINING))
            self._end(container, State.GONE, "asked")

    def _end(self, container: str, state: State, reason: str) -> None:
        if (known := self._containers.get(container)) is not None:
            self._tell(replace(known, state=state, reason=reason))

    def _tell(self, container: Container) -> None:
        if container.state in (State.FAILED, State.GONE):
            self._containers.pop(container.id, None)
        else:
            self._containers[container.id] = container
            self.most = max(self.most, len(self._containers))
        self._mark = replace(self._mark, number=self._mark.number + 1)
        if not self.deaf and not self.is_cut and self.has_agent:
            self._changed(Change(mark=self._mark, container=container))
