"""Where a pool's next container goes, and which idle one goes away for it.

Called by `reconciler` for each container that it wants to start. `scheduler` decides; this file gathers
what it decides by: the node's capacity, its containers, and the other pools.
"""

from collections import Counter
from collections.abc import Callable, Collection

from homeport.contract.capacity import Capacity
from homeport.contract.errors import PortTaken, StartError
from homeport.contract.roles import Ingress, Node
from homeport.control.fleet import scheduler
from homeport.control.fleet.pools import Pool, Pools, Stage, now


class Room:
    """The places of one node."""

    def __init__(
        self,
        pools: Pools,
        node: Node,
        ingress: Ingress,
        *,
        max_containers: int,
        note: Callable[[Pool, str], None],
    ) -> None:
        self._pools = pools
        self._node = node
        self._ingress = ingress
        self._max_containers = max_containers
        self._note = note  # one line for the log of the pool's app

    def fits(self, pools: Collection[Pool]) -> bool:
        """Whether there is room for one more container of each of them, beside all that run."""
        capacity = self._node.capacity()
        room = self._left(capacity)
        for pool in pools:
            needs = scheduler.needs(pool.function, capacity)
            place = scheduler.place([room], needs)
            if place is None:
                return False
            room = scheduler.less(room, needs, place)
        return True

    def may_start(self, pool: Pool) -> bool:
        """Whether a start makes sense now: no back-off, a free port, a machine that could ever do it."""
        if now() < pool.retry_at:
            return False
        if (port := pool.port) is not None and not self._port_is_free(pool, port):
            return False
        why = scheduler.impossible(pool.function, self._node.capacity())
        if why and not pool.ephemeral:
            self._note(pool, f"cannot start: it {why}")
            pool.failed(StartError(f"`{pool.function.name}` {why}"), now())
            return False
        return True

    def place(self, pool: Pool) -> scheduler.Place | None:
        """Where the pool's next container goes; what it waits for is logged once."""
        capacity = self._node.capacity()
        needs, room = scheduler.needs(pool.function, capacity), self._open_to(pool, capacity)
        lacks = scheduler.lack(room, needs)
        pool.crowded = scheduler.full(room)
        if not lacks and self._others_come_first(pool):
            lacks = "a place: functions with fewer containers come first"
        if lacks and not pool.lacks:
            self._note(pool, f"waits for {lacks}")
        pool.lacks = lacks
        return None if lacks else scheduler.place([room], needs)

    async def make(self, pool: Pool) -> None:
        """Drain an idle container of another pool, if it has what this one waits for.

        Not for a pool whose starts fail and that nobody visits: `min_containers` alone would take
        the others' containers again and again.
        """
        if pool.failures and not pool.parked:
            return
        capacity = self._node.capacity()
        needs, room = scheduler.needs(pool.function, capacity), self._open_to(pool, capacity)
        helping = {
            container.id
            for container in self._node.list()
            if scheduler.helps(container.order, room, needs, capacity)
        }
        if any(helping & {*other.leaving()} for other in self._pools):
            return  # there will be room
        counts = self._counts()
        share = self._share(counts, pool)
        mine = counts[_function(pool)]
        for other in sorted(self._pools, key=lambda other: -counts[_function(other)]):
            # One that a deploy has proved may go: an app may have more functions than there is room.
            if other is pool or other.demand or len(other.idle()) <= other.least:
                continue
            if not scheduler.may_evict(mine, counts[_function(other)], share):
                continue
            for member in other.idle():
                if member.id in helping:
                    other.rest()
                    await self._ingress.drain(other.key, member.id)
                    member.stage = Stage.DRAINING
                    return
        if scheduler.full(room) and self._pools.of_container(pool.promised) is None:
            await self._take_busy(pool, counts, share)

    async def _take_busy(
        self, pool: Pool, counts: Counter[tuple[str, str, str]], share: int
    ) -> None:
        """Drain a busy container of a function with more than its share: its requests go on."""
        for other in sorted(self._pools, key=lambda other: -counts[_function(other)]):
            if not scheduler.must_yield(counts[_function(pool)], counts[_function(other)], share):
                continue
            ready = [m for m in other.members.values() if m.stage is Stage.READY]
            if ready:
                member = min(ready, key=lambda m: other.load.per_container.get(m.id, 0))
                await self._ingress.drain(other.key, member.id)
                member.stage, pool.promised = Stage.DRAINING, member.id
                return

    def _others_come_first(self, pool: Pool) -> bool:
        """Whether a function with less than its share waits for a place, and this one has its own."""
        crowded = [other for other in self._pools if other.crowded and other.demand]
        if not crowded:
            return False
        counts = self._counts()
        share = self._share(counts, pool)
        return counts[_function(pool)] >= share and any(
            counts[_function(other)] < share for other in crowded
        )

    def _share(self, counts: Counter[tuple[str, str, str]], pool: Pool) -> int:
        return scheduler.share(self._max_containers, len({*counts, _function(pool)}))

    def _open_to(self, pool: Pool, capacity: Capacity) -> scheduler.Room:
        """What is left, but for what is kept for those that have less than this pool."""
        counts = self._counts()
        standing = scheduler.Standing(
            function=counts[_function(pool)],
            app=sum(other.owner == pool.owner for other, _ in self._pools.members()),
        )
        without = [
            scheduler.needs(other.function, capacity)
            for other in self._pools
            if other.function.memory_mib and not counts[_function(other)] and not other.retired
        ]
        reserved_mib = scheduler.reserved_mib(without, capacity)
        return scheduler.open_to(self._left(capacity), standing, reserved_mib)

    def _counts(self) -> Counter[tuple[str, str, str]]:
        """How many containers each function's version has."""
        return Counter(_function(pool) for pool, _ in self._pools.members())

    def _left(self, capacity: Capacity) -> scheduler.Room:
        there = [container.order for container in self._node.list()]
        return scheduler.room("here", capacity, there, self._max_containers)

    def _port_is_free(self, pool: Pool, port: int) -> bool:
        holder = self._pools.holder_of_port(port)
        if holder is None:
            return True
        if (holder.owner, holder.key.function) != (pool.owner, pool.key.function):
            owner = f"`{holder.key.function}` of the app `{holder.key.app}`"
            pool.refuse(PortTaken(f"port {port} belongs to {owner}"))
        return False


def _function(pool: Pool) -> tuple[str, str, str]:
    """The function's version, whatever its class parameters: visitors choose those."""
    return pool.key.app, pool.key.function, pool.key.revision
