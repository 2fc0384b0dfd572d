"""The two roles in memory, on whatever clock the event loop has."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, ContainerSpec, State
from homeport.contract.errors import Failure
from homeport.contract.traffic import Load, PoolKey


class FakeNode:
    """Starts containers after `start_s`; those that `fails` names fail instead."""

    def __init__(
        self,
        start_s: float = 0.5,
        fails: Callable[[ContainerSpec], bool] | None = None,
        capacity: Capacity = Capacity(cores=4, memory_mib=4096),
    ):
        self.start_s = start_s
        self._capacity = capacity
        self.started: list[ContainerSpec] = []
        self.forgotten: list[str] = []
        self._fails = fails or (lambda _spec: False)
        self._containers: dict[str, Container] = {}
        self._changed: Callable[[Container], None] = lambda _container: None

    def watch(self, changed, said) -> None:
        self._changed = changed

    def start(self, spec: ContainerSpec, environ) -> None:
        self.started.append(spec)
        self._containers[spec.id] = Container(spec=spec, state=State.STARTING)
        asyncio.get_running_loop().call_later(self.start_s, self._begin, spec.id)

    def stop(self, container: str, *, grace_s: float | None = None) -> None:
        asyncio.get_running_loop().call_soon(self._end, container, State.GONE, "asked")

    def capacity(self) -> Capacity:
        return self._capacity

    def forget(self, pool: str) -> None:
        self.forgotten.append(pool)

    def kill(self, container: str) -> None:
        self._end(container, State.GONE, "was killed by SIGKILL")

    def list(self) -> Collection[Container]:
        return list(self._containers.values())

    def _begin(self, container: str) -> None:
        if container not in self._containers:
            return
        if self._fails(self._containers[container].spec):
            self._time(container)
            self._end(container, State.FAILED, "no fuel")
            return
        self._time(container, entered=5.0)
        self._become(container, State.READY)

    def _time(self, container: str, **told_ms: float) -> None:
        timings_ms = {"scheduled": 0.0, "forked": 0.0, "imported": self.start_s * 1000, **told_ms}
        self._containers[container] = replace(self._containers[container], timings_ms=timings_ms)

    def _become(self, container: str, state: State) -> None:
        known = self._containers[container] = replace(
            self._containers[container], state=state, address=f"unix:/{container}"
        )
        self._changed(known)

    def _end(self, container: str, state: State, reason: str) -> None:
        if (known := self._containers.pop(container, None)) is not None:
            self._changed(replace(known, state=state, reason=reason))


@dataclass
class _Pool:
    slots: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    queue: deque[asyncio.Future[str]] = field(default_factory=deque)
    served: int = 0

    @property
    def open(self) -> bool:
        return bool(set(self.slots) - self.draining)


class FakeIngress:
    """HAProxy's promises: a fair queue, exact slots, parking where no container takes requests."""

    def __init__(self) -> None:
        self.park: Callable[[PoolKey], Awaitable[None]] | None = None
        self.most: dict[str, int] = {}
        self._answered: Callable[[str, float], None] = lambda _container, _ms: None
        self._unanswered: set[str] = set()
        self._pools: dict[PoolKey, _Pool] = {}

    def watch(self, answered: Callable[[str, float], None]) -> None:
        self._answered = answered

    async def visit(
        self, key: PoolKey, duration_s: float = 0.0, until: asyncio.Event | None = None
    ) -> str:
        """One request: the container that answered; a `Failure` where none did."""
        assert self.park is not None
        while not (pool := self._pools.get(key)) or not pool.open:
            await self.park(key)
        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pool.queue.append(turn)
        self._assign(pool)
        if not (container := await turn):
            return await self.visit(key, duration_s, until)
        began = asyncio.get_running_loop().time()
        try:
            await (until.wait() if until else asyncio.sleep(duration_s))
        finally:
            if container in pool.running:
                pool.running[container] -= 1
            pool.served += 1
            self._assign(pool)
        if container in self._unanswered:
            self._unanswered.discard(container)
            self._answered(container, (asyncio.get_running_loop().time() - began) * 1000)
        return container

    async def attach(self, pool: PoolKey, container: str, address: str, slots: int) -> None:
        known = self._pools.setdefault(pool, _Pool())
        known.slots[container], known.running[container] = slots, 0
        self._unanswered.add(container)
        self._assign(known)

    async def drain(self, pool: PoolKey, container: str) -> None:
        self._pools[pool].draining.add(container)

    async def lose(self, pool: PoolKey, container: str) -> None:
        known = self._pools[pool]
        known.draining.add(container)
        if not known.open:
            while known.queue:
                known.queue.popleft().set_result("")  # they look again

    async def detach(self, pool: PoolKey, container: str) -> bool:
        known = self._pools[pool]
        busy = known.running.get(container, 0)
        last = not set(known.slots) - known.draining - {container}
        if busy or (last and known.queue):
            return False
        for each in (known.slots, known.running):
            each.pop(container, None)
        known.draining.discard(container)
        return True

    async def drop(self, pool: PoolKey) -> None:
        self._pools.pop(pool, None)

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        return {
            key: Load(
                running=sum(known.running.values()),
                queued=len(known.queue),
                served=known.served,
                per_container=dict(known.running),
            )
            for key in pools
            if (known := self._pools.get(key))
        }

    async def alias(self, key: str, pool: PoolKey) -> None:
        pass

    def _assign(self, pool: _Pool) -> None:
        for container, slots in pool.slots.items():
            # The last one to drain works the queue off.
            if container in pool.draining and pool.open:
                continue
            while pool.queue and pool.running[container] < slots:
                pool.running[container] += 1
                self.most[container] = max(self.most.get(container, 0), pool.running[container])
                pool.queue.popleft().set_result(container)


class NoSecrets:
    """A secret box with nothing in it."""

    def environ(self, _spec) -> dict[str, str]:
        return {}


__all__ = ["Failure", "FakeIngress", "FakeNode", "NoSecrets"]
