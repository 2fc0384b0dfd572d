"""Measures every 15 seconds what containers use, while there is one; without containers it does not wake the server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from homeport.contract.capacity import Usage
from homeport.contract.container import Container
from homeport.contract.scope import Scope
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pools import Pools
from homeport.control.turns import in_turns
from homeport.state.usage import Sample
from homeport.supervised import Tasks, supervised

EVERY_S = 15.0

#: Whose: the environment, the app and the function.
_Whose = tuple[Scope, str, str]


class Sampler:
    """Adds up the use of the containers of each function, and counts their starts."""

    def __init__(
        self,
        nodes: Nodes,
        pools: Pools,
        keep: Callable[[float, float, Mapping[Scope, Sequence[Sample]]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`keep` gets the time, the seconds since the look before, and the use in them; it is called in a thread."""
        self._nodes = nodes
        self._pools = pools
        self._keep = keep
        self._clock = clock
        self.failed: Callable[[], None] = lambda: None  # called when containers did not start
        self._wanted = asyncio.Event()
        self._looked_at = 0.0
        self._cpu_s: dict[
            str, float
        ] = {}  # container -> the seconds that it had used at the last look
        self._starts: dict[PoolKey, tuple[int, int]] = {}  # cold and failed ones, likewise
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to look."""
        self._starts = {pool.key: (pool.cold_starts, pool.failed_starts) for pool in self._pools}
        if self._nodes.containers():
            self._wanted.set()
        self._tasks.start("usage", supervised("usage", self._look_again_and_again))

    async def close(self) -> None:
        """Look no more."""
        await self._tasks.close()

    def changed(self, _container: Container) -> None:
        """A container starts, or has ended."""
        self._wanted.set()

    async def look(self) -> None:
        """Look once."""
        containers = self._nodes.containers()
        if not containers:
            self._wanted.clear()  # this is the last look: containers may have started and ended since the one before
        used = await self._nodes.usage() if containers else {}
        now = self._clock()
        span_s = now - self._looked_at
        if not 0 < span_s < 2 * EVERY_S:  # the first one after a pause, or the clock was set
            span_s = EVERY_S
        self._looked_at = now
        samples = await self._samples(containers, used, now - span_s)
        if samples:
            await asyncio.to_thread(self._keep, now, span_s, samples)
        if any(sample.failed_starts for of_one in samples.values() for sample in of_one):
            self.failed()

    async def _look_again_and_again(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def _samples(
        self, containers: Sequence[Container], used: Mapping[str, Usage], since: float
    ) -> dict[Scope, list[Sample]]:
        counts: dict[_Whose, list[float]] = {}  # containers, both starts, seconds, both memories
        async for container in in_turns(containers):
            order = container.order
            row = counts.setdefault((order.within, order.pool.app, order.pool.function), [0] * 6)
            row[0] += 1
            if (usage := used.get(container.id)) is not None:
                is_new = container.started_at >= since
                before = self._cpu_s.get(container.id, 0.0 if is_new else usage.cpu_s)
                row[3] += max(usage.cpu_s - before, 0.0)
                row[4] += usage.memory_mib
                row[5] += usage.gpu_memory_mib
        self._cpu_s = {name: usage.cpu_s for name, usage in used.items()}
        async for name, cold, failed in self._new_starts():
            row = counts.setdefault(name, [0] * 6)
            row[1] += cold
            row[2] += failed
        samples: dict[Scope, list[Sample]] = {}
        async for (scope, app, function), row in in_turns(counts.items()):
            sample = Sample(
                app=app,
                function=function,
                containers=int(row[0]),
                cold_starts=int(row[1]),
                failed_starts=int(row[2]),
                cpu_s=round(row[3], 3),
                memory_mib=int(row[4]),
                gpu_memory_mib=int(row[5]),
            )
            samples.setdefault(scope, []).append(sample)
        return samples

    async def _new_starts(self) -> AsyncIterator[tuple[_Whose, int, int]]:
        """Yield how many containers have become ready, and how many have not, since the last look."""
        before, self._starts = self._starts, {}
        async for pool in in_turns([*self._pools]):
            starts = self._starts[pool.key] = pool.cold_starts, pool.failed_starts
            cold, failed = (
                a - b for a, b in zip(starts, before.get(pool.key, (0, 0)), strict=True)
            )
            if cold > 0 or failed > 0:
                function = pool.owner.scope, pool.key.app, pool.key.function
                yield function, max(cold, 0), max(failed, 0)
