"""Says which pools the next pass of the control loop looks at, so that the other pools cost a pass nothing.

A pool is on the agenda from an event (`note`) until a pass finds that nothing is under way. Then it is one of two kinds.
It is asleep: it has no container, and events bring it back. Or it is quiet: it has containers without requests,
and the ingress tells when the next request to it begins (`rouse`). A pool that changes by itself comes back at
its time. Every `WHOLE_S`, and after a change that names no pool (`note_all`), the loop looks at all pools: so it still
compares states, and a lost event delays a change by `WHOLE_S` at most.

A pass looks at `SHARE` pools and containers at most. If there are more, it looks at `MANY`: those with an event since their last look go first,
then those on the agenda in turn, then those whose turn it is in a look at all pools, which takes several passes then.
"""

import heapq
import math
from collections.abc import Iterable

from homeport.contract.traffic import PoolKey
from homeport.control.fleet.calm import until
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools

WHOLE_S = 5.0
SHARE = 2000  # about 25 ms
MANY = 1200  # of them, if there are more: a pass has more to do then


class Agenda:
    """The pools that a pass looks at."""

    def __init__(self, pools: Pools, share: int = SHARE, many: int = MANY) -> None:
        self._pools, self._share, self._many = pools, share, many
        self._noted: dict[PoolKey, None] = {}  # in the order in which they came
        self._fresh: dict[PoolKey, None] = {}  # of these, those with an event since their last look
        self._unseen: dict[PoolKey, None] = {}  # those that a look at all pools has not reached
        self._at: dict[PoolKey, float] = {}  # of those on the agenda: `until`, by their last look
        self._looked_at: list[Pool] = []  # by the last pass
        self._has_more = False  # a pass has left some for the next one
        self.is_late = False  # because it had no time for them
        self._watched: set[PoolKey] = set()  # the ingress will report the next request to these
        self._due: list[tuple[float, PoolKey]] = []  # a heap: when the others change by themselves
        self._due_at: dict[PoolKey, float] = {}  # which of its entries count
        self._whole_at = -math.inf
        pools.on_added.append(self.note)
        pools.on_retired.append(self.note)
        pools.on_removed.append(self._removed)

    def note(self, pool: Pool) -> None:
        """Look at this pool in the next pass."""
        self._noted[pool.key] = self._fresh[pool.key] = None
        self._at.pop(pool.key, None)

    def note_all(self) -> None:
        """Look at all pools from the next pass on."""
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
        """Return whether the next pass begins to look at all pools."""
        return now >= self._whole_at

    def begin(self, now: float) -> list[Pool]:
        """Begin a pass; return the pools that it looks at."""
        self.is_late = False
        if self.is_whole(now):
            self._begin_whole(now)
        while self._due and self._due[0][0] <= now:
            at, key = heapq.heappop(self._due)
            if self._due_at.get(key) == at:
                del self._due_at[key]
                self._noted[key] = None
        if self._all_fit:
            self._noted |= self._unseen
        was_whole = bool(self._unseen)  # a look at all pools is under way
        self._looked_at = self._pools_noted() if self._all_fit else self._chosen()
        for pool in self._looked_at:
            self._fresh.pop(pool.key, None)
            self._unseen.pop(pool.key, None)
            self._at.pop(pool.key, None)
        if was_whole and not self._unseen:
            self._whole_at = max(self._whole_at, now + WHOLE_S)
        self._has_more = bool(self._unseen or self._fresh) or self._has_others()
        return self._looked_at

    @property
    def _all_fit(self) -> bool:
        return self._pools.size <= self._share

    def _begin_whole(self, now: float) -> None:
        self._whole_at = now + WHOLE_S
        if self._all_fit:
            self._noted, self._unseen = self._pools.keys(), {}
            self._due, self._due_at = [], {}
        else:
            self._unseen |= self._pools.keys()

    def _chosen(self) -> list[Pool]:
        """Return the pools for this pass, if all are too many for one."""
        chosen: dict[PoolKey, Pool] = {}
        left = 0.0
        # Each kind gets some of each pass, and what the kinds before it have left.
        for keys, share in ((self._fresh, 0.5), (self._noted, 0.25), (self._unseen, 0.25)):
            left = max(left, 0) + share * self._many
            for key in keys:
                if left <= 0:
                    break
                if key not in chosen and (pool := self._pools.get(key)) is not None:
                    chosen[key] = pool
                    left -= 1 + len(pool.members)
        return list(chosen.values())

    def _has_others(self) -> bool:
        """Return whether the agenda has pools that this pass does not look at."""
        if self._all_fit:
            return False
        looked_at = {pool.key for pool in self._looked_at}
        return any(key not in looked_at for key in self._noted)

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
                self._fresh.pop(pool.key, None)
                self._is_due(pool.key, at)
                continue
            self._at[pool.key] = at
            if not self._all_fit:  # it is the last one in turn
                self._noted.pop(pool.key, None)
            self._noted[pool.key] = None

    def _is_due(self, key: PoolKey, at: float) -> None:
        """Look at a pool that is off the agenda at this time; infinity: not before an event."""
        if at == math.inf:
            self._due_at.pop(key, None)
        elif self._due_at.get(key) != at:
            self._due_at[key] = at
            heapq.heappush(self._due, (at, key))
        if len(self._due) > 2 * len(self._due_at) + 100:  # most of its entries count no more
            self._due = [(at, key) for key, at in self._due_at.items()]
            heapq.heapify(self._due)

    def leave(self, pools: Iterable[Pool]) -> None:
        """Look at these pools in the next pass, because this one has no time for them."""
        left = {pool.key: None for pool in pools}
        if left:
            self._noted |= left
            self._fresh = left | self._fresh
            self._has_more = self.is_late = True

    def under_way(self) -> list[Pool]:
        """Return the pools on the agenda: all in which something is under way."""
        return self._pools_noted()

    def quiet(self, now: float) -> list[Pool]:
        """Return the pools that the ingress does not watch and that need no further look before their next request."""
        return [
            pool
            for pool in (self._pools_noted() if self._all_fit else self._looked_at)
            if pool.members and pool.key not in self._watched and self._until(pool, now) > now
        ]

    def next_at(self, now: float) -> float:
        """Return when the next pass is due: `now` or earlier if something is under way."""
        if self._has_more:
            return now
        at = min((self._until(pool, now) for pool in self._pools_noted()), default=math.inf)
        return min(at, self._whole_at, self._due[0][0] if self._due else math.inf)

    def _until(self, pool: Pool, now: float) -> float:
        at = self._at.get(pool.key)
        return until(pool, now) if at is None else at

    def _pools_noted(self) -> list[Pool]:
        return [pool for key in self._noted if (pool := self._pools.get(key)) is not None]

    def _removed(self, pool: Pool) -> None:
        if self._pools.get(pool.key) is None:
            for keys in (self._noted, self._fresh, self._unseen):
                keys.pop(pool.key, None)
            for times in (self._at, self._due_at):
                times.pop(pool.key, None)
            self._watched.discard(pool.key)
