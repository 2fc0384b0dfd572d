"""The pools in memory: their containers and their parked requests.

The reconciler and the activator change them, the API reads them. Nothing here does I/O.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator

from homeport.contract import parameters, variants
from homeport.contract.container import StartOrder
from homeport.contract.errors import NotFound, TooMany
from homeport.contract.manifest import Value
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.member import Member
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import RETIRED_DRAIN_S, Pool, Totals, now

MOST_VALUES = 40  # sets of class parameters of one function that have pools at once
PAST = 10_000  # containers that are remembered, the newest


class Pools:
    """All pools, by key."""

    def __init__(self, most_values: int = MOST_VALUES) -> None:
        self.own_ports = False  # containers take no port of this machine
        self._most_values = most_values
        self._pools: dict[PoolKey, Pool] = {}
        #: The same by app and revision, and the function: a list of everything asks for each of them.
        self._families: dict[tuple[str, str], dict[PoolKey, Pool]] = {}
        self._by_container: dict[str, Pool] = {}
        #: How many containers each function's version has, without class parameters, because visitors choose those.
        self.of_function: Counter[PoolKey] = Counter()
        self.of_owner: Counter[Owner] = Counter()  # how many containers each owner has
        #: The pools of functions that ask for memory and have no container, by how much.
        self._hungry: dict[int, dict[PoolKey, Pool]] = {}
        # By container, also after its end: its last lines arrive later.
        self._past: dict[str, tuple[Owner, PoolKey]] = {}
        self.on_added: list[Callable[[Pool], None]] = []  # called with each new pool
        self.on_removed: list[Callable[[Pool], None]] = []  # called with each removed pool
        self.on_retired: list[Callable[[Pool], None]] = []  # called with each pool that makes way

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    @property
    def size(self) -> int:
        """How many pools and containers there are."""
        return len(self._pools) + len(self._by_container)

    def keys(self) -> dict[PoolKey, None]:
        """Return the keys of all pools, in the order in which they were added."""
        return dict.fromkeys(self._pools)

    def get(self, key: PoolKey) -> Pool | None:
        """Return the pool with exactly this key; None if there is none."""
        return self._pools.get(key)

    def add(self, pool: Pool) -> None:
        """Add a pool, in place of one with the same key."""
        pool.own_ports = self.own_ports
        replaced = self._pools.get(pool.key)
        self._pools[pool.key] = pool
        self._families.setdefault(_family(pool.key), {})[pool.key] = pool
        for changed in (replaced, pool):
            if changed is not None:
                self._weigh(changed)
        for tell in self.on_added:
            tell(pool)

    def open(self, pool: Pool) -> Pool:
        """Add the pool, or revive the one with its key whose last containers still drain."""
        existing = self._pools.get(pool.key)
        if existing is None:
            self.add(pool)
            existing = pool
        existing.revive()
        return existing

    def remove(self, pool: Pool) -> None:
        """Remove a pool whose containers have ended."""
        if self._pools.get(pool.key) is pool:
            del self._pools[pool.key]
            family = self._families[_family(pool.key)]
            del family[pool.key]
            if not family:
                del self._families[_family(pool.key)]
            self._weigh(pool)
            base = self._pools.get(dataclasses.replace(pool.key, parameters=""))
            if base is not None:  # the function's counters must not decrease
                base.served_before += pool.load.served + pool.served_before
                base.errors_before += pool.load.errors + pool.errors_before
                base.cold_starts += pool.cold_starts
                base.failed_starts += pool.failed_starts
        for tell in self.on_removed:
            tell(pool)

    def enlist(self, pool: Pool, member: Member) -> None:
        """Add a starting container to a pool."""
        pool.members[member.id] = member
        if member.id not in self._by_container:
            self._count(pool, 1)
        self._by_container[member.id] = pool
        self._past[member.id] = (pool.owner, pool.key)
        if len(self._past) > PAST:
            del self._past[next(iter(self._past))]

    def discharge(self, container: str) -> None:
        """Remove a container that has ended."""
        if pool := self._by_container.pop(container, None):
            pool.members.pop(container, None)
            self._count(pool, -1)

    def _count(self, pool: Pool, change: int) -> None:
        base = pool.key.base
        before = self.of_function[base]
        self.of_function[base] += change
        if not self.of_function[base]:
            del self.of_function[base]
        if not before or not before + change:
            for other in self._families.get(_family(base), {}).values():
                if other.key.function == base.function:
                    self._weigh(other)
        self.of_owner[pool.owner] += change
        if not self.of_owner[pool.owner]:
            del self.of_owner[pool.owner]

    def _weigh(self, pool: Pool) -> None:
        """Note whether memory is kept for the first container of a pool's function."""
        if not pool.function.memory_mib:
            return
        asked_mib, is_there = pool.function.memory_mib[0], self._pools.get(pool.key) is pool
        if is_there and not self.of_function[pool.key.base]:
            self._hungry.setdefault(asked_mib, {})[pool.key] = pool
        elif (others := self._hungry.get(asked_mib)) is not None:
            others.pop(pool.key, None)
            if not others:
                del self._hungry[asked_mib]

    def hungry(self) -> list[int]:
        """Return the sizes of memory, in MiB, that functions without a container ask for, each once."""
        return [
            asked_mib
            for asked_mib, pools in self._hungry.items()
            if any(not pool.retired for pool in pools.values())
        ]

    def containers(self) -> list[str]:
        """Return the ids of all containers."""
        return list(self._by_container)

    def of_container(self, container: str) -> Pool | None:
        """Return the pool that a container belongs to; None if it is unknown."""
        return self._by_container.get(container)

    def owner_of(self, container: str) -> Owner | None:
        """Return the owner of a container's pool, also for a while after the container's end; None if unknown."""
        pool = self._by_container.get(container)
        if pool is not None:
            return pool.owner
        return self._past[container][0] if container in self._past else None

    def revision_of(self, container: str) -> str:
        """Return the revision that a container runs or ran; empty if it is unknown."""
        if (pool := self._by_container.get(container)) is not None:  # perhaps for very long
            return pool.key.revision
        return self._past[container][1].revision if container in self._past else ""

    def of_revision(self, app: str, revision: str) -> list[Pool]:
        """Return the pools of one revision, including those for class parameters."""
        return list(self._families.get((app, revision), {}).values())

    def totals(self, key: PoolKey) -> Totals:
        """Return the sums over a function's pools for all class parameters."""
        family = self._families.get(_family(key), {})
        pools = [pool for pool in family.values() if pool.key.function == key.function]
        return Totals(
            running=sum(pool.load.running for pool in pools),
            queued=sum(pool.load.queued + len(pool.parked) for pool in pools),
            served=sum(pool.load.served + pool.served_before for pool in pools),
            errors=sum(pool.load.errors + pool.errors_before for pool in pools),
            cold_starts=sum(pool.cold_starts for pool in pools),
            failed_starts=sum(pool.failed_starts for pool in pools),
        )

    def holder_of_port(self, port: int) -> Pool | None:
        """Return the pool whose container has this port, or is about to get it."""
        return next((p for p in self if port in p.ports and p.members), None)

    def called_for(self, key: PoolKey) -> Pool:
        """Return the pool for requests with this key; add it if its parameters are new.

        A retired pool is returned too: its endpoint uses another pool by now, or none.

        Raises `NotFound` if no endpoint uses such a pool, or a variant is about to be removed; `BadRequest`, with the accepted parameters, if one
        is missing or has the wrong type; `TooMany` if all allowed sets of values have requests.
        """
        base = self._pools.get(key.base)
        if base is None:
            raise NotFound("app for invoked web endpoint is stopped")
        if base.variant and base.retired:
            raise NotFound(
                "these options are not in use any more"
            )  # the caller asks for them again
        base.used_at = now()
        if base.retired or not base.function.parameters:
            return base
        values = parameters.read(base.function.parameters, key.parameters)
        spelling = parameters.spell(base.function.parameters, values)
        pool = self._pools.get(PoolKey(key.app, key.function, key.revision, spelling))
        if pool is None:
            pool = self._with_parameters(base, spelling, values)
        pool.revive()
        pool.used_at = now()
        return pool

    def take_in(self, order: StartOrder) -> None:
        """Add the pool of a variant's container that an earlier server has started, for the requests inside.

        Its options came with a call, and no call has come since: so no container of it starts, and idle ones end.
        """
        key = order.pool.base
        base = dataclasses.replace(key, function=variants.origin(key.function))
        origin = self._pools.get(base)
        if key == base or key in self._pools or origin is None or origin.retired:
            return
        self.add(origin.of_options(key.function, order.function, orphan=True))

    def _with_parameters(self, base: Pool, spelling: str, values: dict[str, Value]) -> Pool:
        self._make_way(base)
        pool = base.of_values(spelling, values)
        self.add(pool)
        if base.demoted:
            pool.demote(0.0)
        return pool

    def _make_way(self, base: Pool) -> None:
        """Retire the least recently used set of values if the limit is reached."""
        siblings = [
            pool
            for pool in self._families[_family(base.key)].values()
            if pool.key.parameters and pool.key.function == base.key.function
        ]
        staying = [pool for pool in siblings if not pool.retired]
        if len(staying) < self._most_values:
            return
        idle = [pool for pool in staying if pool.idles and not pool.least]
        # Pools that are being removed still have a backend in the ingress.
        if not idle or len(siblings) >= 2 * self._most_values:
            raise TooMany(
                f"too many values of the class parameters of `{base.key.function}` are in use "
                "at once; try again"
            )
        oldest = min(idle, key=lambda pool: pool.used_at)
        oldest.retire(RETIRED_DRAIN_S)
        for tell in self.on_retired:
            tell(oldest)


def _family(key: PoolKey) -> tuple[str, str]:
    return key.app, key.revision
