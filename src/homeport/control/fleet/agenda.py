"""Says which pools the next pass of the control loop looks at, so that the other pools cost a pass nothing.

A pool is on the agenda from an event (`note`) until a pass finds that nothing is under way. Then it is one of two kinds.
It is asleep: it has no container, and events bring it back. Or it is quiet: it has containers without requests,
and the ingress tells when the next request to it begins (`rouse`). A pool that changes by itself comes back at
its time. Every `WHOLE_S`, and after a change that names no pool (`note_all`), a pass looks at all pools: so the loop still
compares states, and a lost event delays a change by `WHOLE_S` at most.
"""

import heapq
import math
from collections.abc import Iterable

from homeport.contract.traffic import PoolKey
from homeport.control.fleet.calm import until
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools

WHOLE_S = 5.0


class Agenda:
    """The pools that a pass looks at."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._noted: dict[PoolKey, None] = {}  # in the order in which they came
        self._watched: set[PoolKey] = set()  # the ingress will report the next request to these
        self._due: list[tuple[float, PoolKey]] = []  # a heap: when the others change by themselves
        self._whole_at = -math.inf
        pools.on_added.append(self.note)
        pools.on_retired.append(self.note)

    def note(self, pool: Pool) -> None:
        """Look at this pool in the next pass."""
        self._noted[pool.key] = None

    def note_all(self) -> None:
        """Look at all pools in the next pass."""
        self._whole_at = -math.inf

    def rouse(self, pool: Pool) -> None:
        """Look at this pool: the ingress has reported a request. It reports only the next one."""
        self._watched.discard(pool.key)
        self.note(pool)

    def watch(self, pools: Iterable[Pool]) -> None:
        """Record that the ingress will report the next request to these pools. A request may have begun before, so
        the next pass looks at them.
        """
        self._watched |= {pool.key for pool in pools}

    def watch_none(self) -> None:
        """Record that the ingress may report no request any more, because it does not answer."""
        self._watched.clear()
        self.note_all()

    def is_whole(self, now: float) -> bool:
        """Return whether the next pass looks at all pools."""
        return now >= self._whole_at

    def begin(self, now: float) -> list[Pool]:
        """Begin a pass; return the pools that it looks at."""
        if self.is_whole(now):
            self._whole_at, self._due = now + WHOLE_S, []
            self._noted = {pool.key: None for pool in self._pools}
            self._watched &= self._noted.keys()
        while self._due and self._due[0][0] <= now:
            self._noted[heapq.heappop(self._due)[1]] = None
        return self._pools_noted()

    def end(self, looked_at: Iterable[Pool], now: float) -> None:
        """End a pass: take the pools that are asleep or quiet off the agenda."""
        for pool in looked_at:
            if self._pools.get(pool.key) is not pool:
                continue
            at = until(pool, now)
            if pool.members and at <= now:
                self._watched.discard(
                    pool.key
                )  # it has requests, so the ingress may have reported one
            if pool.asleep or (pool.key in self._watched and at > now):
                self._noted.pop(pool.key, None)
                if at < math.inf:
                    heapq.heappush(self._due, (at, pool.key))

    def quiet(self, now: float) -> list[Pool]:
        """Return the pools that the ingress does not watch and that need no further look before their next request."""
        return [
            pool
            for pool in self._pools_noted()
            if pool.members and pool.key not in self._watched and until(pool, now) > now
        ]

    def next_at(self, now: float) -> float:
        """Return when the next pass is due: `now` or earlier if something is under way."""
        at = min((until(pool, now) for pool in self._pools_noted()), default=math.inf)
        return min(at, self._whole_at, self._due[0][0] if self._due else math.inf)

    def _pools_noted(self) -> list[Pool]:
        return [pool for key in self._noted if (pool := self._pools.get(key)) is not None]
