"""The two roles in memory, on whatever clock the event loop has.

`calls` records every call. `fault(call, what, when)` is awaited `before` and `after` each one
takes effect: it may raise, to break the call there, or wait.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from homeport.contract.capacity import Capacity, Usage
from homeport.contract.container import Container, LogLine, StartOrder, State
from homeport.contract.errors import Failure, NodeLost, NotFound, StartError
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import Detached, Endpoint, Load, PoolKey
from homeport.ingress import certificates, pairs
from tests.guards import FakeGuards
from tests.program import FakeProgram
from tests.recorded import FakeLog


async def no_fault(_call: str, _what: str, _when: str) -> None:
    """Every call succeeds."""


class Recorded:
    """Records calls, and injects faults."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fault: Callable[[str, str, str], Awaitable[None]] = no_fault

    @contextlib.asynccontextmanager
    async def _call(self, name: str, what: object = "") -> AsyncIterator[None]:
        self.calls.append((name, str(what)))
        await self.fault(name, str(what), "before")
        yield
        await self.fault(name, str(what), "after")


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


@dataclass
class _Pool:
    slots: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    held: dict[str, int] = field(default_factory=dict)
    queue: deque[asyncio.Future[str]] = field(default_factory=deque)
    inside: dict[asyncio.Future, tuple[str, float]] = field(
        default_factory=dict
    )  # request -> (its container, when it began)
    served: int = 0
    served_by: dict[str, int] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return any(self.room(name) > 0 for name in set(self.slots) - self.draining)

    def room(self, container: str) -> int:
        """Return the number of slots that are not held."""
        return self.slots[container] - self.held.get(container, 0)


def _after(seconds: float) -> asyncio.Future:
    """Return a future that is done after this time, in the same turn as `asyncio.sleep`, and that others may cancel."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(seconds, lambda: done.done() or done.set_result(None))
    return done


class FakeIngress(FakeGuards, Recorded, FakeLog):
    """HAProxy's promises: a fair queue, exact slots, parking where no container takes requests."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: dict[str, Endpoint] = {}
        self.ports: set[int] = set()  # ports that are in use
        self.certificates: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        self.held: dict[str, int] = {}
        self.park: Callable[[PoolKey], Awaitable[None]] | None = None
        self.rouse: Callable[[PoolKey], None] = lambda _pool: None  # what `awake` does
        self.most: dict[str, int] = {}
        self.quiet: set[PoolKey] = set()
        self._answered: Callable[[str, float], None] = lambda _container, _ms: None
        self._unanswered: set[str] = set()
        self._pools: dict[PoolKey, _Pool] = {}

    @property
    def backends(self) -> set[PoolKey]:
        """Return the pools that have a backend."""
        return set(self._pools)

    async def open(self) -> None:
        self.calls.append(("open", ""))

    async def start(self) -> None:
        self.calls.append(("start", ""))

    async def close(self) -> None:
        self.endpoints.clear()
        self._pools.clear()

    async def route(self, endpoint: Endpoint) -> None:
        async with self._call("route", endpoint.id):
            self.endpoints[endpoint.id] = endpoint
            if endpoint.local_port is not None:
                self.ports.add(endpoint.local_port)

    async def unroute(self, endpoint_id: str) -> None:
        async with self._call("unroute", endpoint_id):
            if (endpoint := self.endpoints.pop(endpoint_id, None)) is not None:
                self.ports.discard(endpoint.local_port or 0)
                self.captures.pop(endpoint_id, None)
                self.splits.pop(endpoint_id, None)

    async def free_port(self) -> int:
        async with self._call("free_port"):
            port = next(port for port in range(5000, 6000) if port not in self.ports)
            self.ports.add(port)
            return port

    async def certificate(self, name: str, pem: bytes, hosts: Collection[str]) -> None:
        async with self._call("certificate", name):
            pair = pairs.read(pem, hosts)
            self.certificates[name] = pair.pem, certificates.held(name, pair, hosts).hosts

    async def remove_certificate(self, name: str) -> None:
        async with self._call("remove_certificate", name):
            self.certificates.pop(name, None)

    async def doze(self, pools: Collection[PoolKey]) -> None:
        async with self._call("doze"):
            self.quiet |= set(pools)

    def quantiles_ms(self, endpoint_id: str) -> tuple[int, int] | None:
        return None

    def watch(self, answered: Callable[[str, float], None]) -> None:
        self._answered = answered

    def _leads(self, where: PoolKey | str) -> PoolKey:
        if isinstance(where, PoolKey):
            return where
        if where not in self.endpoints:
            raise NotFound(f"there is no endpoint `{where}`")
        return self.endpoints[where].pool

    async def visit(
        self,
        where: PoolKey | str,
        duration_s: float = 0.0,
        until: asyncio.Event | None = None,
        *,
        cold: bool = False,
    ) -> str:
        """Send one request to a pool or an endpoint; return the container that answered, or raise a `Failure`."""
        assert self.park is not None
        while not (pool := self._pools.get(self._leads(where))) or not pool.open:
            cold = True
            await self.park(self._leads(where))
            if not (pool := self._pools.get(self._leads(where))) or not pool.open:
                await asyncio.sleep(0.05)  # as HAProxy does before it looks again
        if (key := self._leads(where)) in self.quiet:
            self.quiet.discard(key)
            self.rouse(replace(key, parameters=""))
        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pool.queue.append(turn)
        self._assign(pool)
        if not (container := await turn):
            return await self.visit(where, duration_s, until, cold=True)
        began = asyncio.get_running_loop().time()
        work = asyncio.ensure_future(until.wait()) if until else _after(duration_s)
        pool.inside[work] = container, began
        try:
            await work
        except asyncio.CancelledError:
            if work in pool.inside:
                raise
            raise Failure(f"the request was ended in {container}") from None  # by `cut`
        finally:
            pool.inside.pop(work, None)
            if container in pool.running:
                pool.running[container] -= 1
            pool.served += 1
            pool.served_by[container] = pool.served_by.get(container, 0) + 1
            self._assign(pool)
        if container in self._unanswered:
            self._unanswered.discard(container)
            self._answered(container, (asyncio.get_running_loop().time() - began) * 1000)
        self._tell(where, container, asyncio.get_running_loop().time() - began, cold=cold)
        return container

    async def attach(
        self, pool: PoolKey, container: str, address: str, slots: int, *, shared: bool = True
    ) -> None:
        async with self._call("attach", container):
            known = self._pools.setdefault(pool, _Pool())
            known.slots[container], known.running[container] = slots, 0
            self._unanswered.add(container)
            self._assign(known)

    async def hold(self, pool: PoolKey, container: str, held: int) -> None:
        async with self._call("hold", container):
            self.held[container] = held
            known = self._pools.get(pool)
            if known is None or container not in known.slots:
                return
            known.held[container] = held
            self._look_again(known)
            self._assign(known)

    async def cut(self, pool: PoolKey, container: str, age_s: float) -> None:
        async with self._call("cut", container):
            inside = self._pools[pool].inside if pool in self._pools else {}
            now = asyncio.get_running_loop().time()
            for work, (where, began) in list(inside.items()):
                if where == container and now - began >= age_s:
                    del inside[work]
                    work.cancel()

    async def drain(self, pool: PoolKey, container: str) -> None:
        async with self._call("drain", container):
            if known := self._pools.get(pool):
                known.draining.add(container)

    async def lose(self, pool: PoolKey, container: str) -> None:
        async with self._call("lose", container):
            if (known := self._pools.get(pool)) is None:
                return
            known.draining.add(container)
            known.held[container] = known.slots.get(container, 0)
            self._look_again(known)

    async def detach(self, pool: PoolKey, container: str) -> Detached | None:
        async with self._call("detach", container):
            return self._detach(pool, container)

    def _detach(self, pool: PoolKey, container: str) -> Detached | None:
        if (known := self._pools.get(pool)) is None:
            return Detached()
        busy = known.running.get(container, 0)
        last = not set(known.slots) - known.draining - {container}
        if busy or (last and known.queue):
            return None
        for each in (known.slots, known.running, known.held):
            each.pop(container, None)
        known.draining.discard(container)
        return Detached(served=known.served_by.pop(container, 0))

    async def drop(self, pool: PoolKey) -> None:
        async with self._call("drop", pool):
            self._pools.pop(pool, None)

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        await self.fault("load", "", "before")
        return {
            key: Load(
                running=sum(known.running.values()),
                queued=len(known.queue),
                served=known.served,
                per_container=dict(known.running),
                served_by={name: known.served_by.get(name, 0) for name in known.running},
            )
            for key in pools
            if (known := self._pools.get(key))
        }

    async def alias(self, key: str, pool: PoolKey) -> None:
        async with self._call("alias", key):
            pass

    def _look_again(self, pool: _Pool) -> None:
        """Let queued requests park if no container can take them."""
        if all(pool.room(name) <= 0 for name in pool.slots):
            while pool.queue:
                pool.queue.popleft().set_result("")

    def _assign(self, pool: _Pool) -> None:
        for container in pool.slots:
            # The last container that drains still serves the queue.
            if container in pool.draining and pool.open:
                continue
            while pool.queue and pool.running[container] < pool.room(container):
                pool.running[container] += 1
                self.most[container] = max(self.most.get(container, 0), pool.running[container])
                pool.queue.popleft().set_result(container)


class NoSecrets:
    """A secret box with nothing in it."""

    def of(self, _scope) -> "NoSecrets":
        return self

    def environ(self, _spec) -> dict[str, str]:
        return {}


__all__ = ["Failure", "FakeIngress", "FakeNode", "NoSecrets", "no_fault"]
