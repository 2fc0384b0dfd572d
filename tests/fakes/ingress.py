"""The role Ingress in memory: its endpoints, and the requests to its pools."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace

from homeport.contract.errors import Failure, NotFound
from homeport.contract.traffic import Detached, Endpoint, Load, PoolKey
from homeport.ingress import certificates, pairs
from tests.fakes.calls import Recorded
from tests.fakes.guards import FakeGuards
from tests.fakes.records import FakeRecords


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


class FakeIngress(FakeGuards, Recorded, FakeRecords):
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
