"""Finds a place for a pool's next container; ends an idle container of another pool to make one.

`reconciler` calls it for each container that it wants to start. `scheduler` decides; this module gives it
the facts: each node's resources, its containers, and the other pools.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from homeport.contract.capacity import Capacity
from homeport.contract.container import HERE
from homeport.contract.errors import PortTaken, StartError
from homeport.contract.roles import Ingress
from homeport.contract.scope import SYSTEM
from homeport.contract.traffic import PoolKey
from homeport.control.fleet import scheduler
from homeport.control.fleet.member import Stage
from homeport.control.fleet.mirror import Mirror
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pool import Pool, now
from homeport.control.fleet.pools import Pools

TURN = 200  # pools, or nodes, that are looked at before others on the event loop have their turn
MACHINE_S = 600.0  # that a container waits for a machine which Ray could add
AN_IMAGE = "its image on another node"  # what a pool waits for, without any lack of room


class Rooms:
    """The free room of the nodes; in one class, because every answer is made of the same rooms and pools."""

    def __init__(
        self,
        pools: Pools,
        nodes: Nodes,
        ingress: Ingress,
        *,
        note: Callable[[Pool, str], None],
        drained: Callable[[Pool], None],
        under_way: Callable[[], Iterable[Pool]],
    ) -> None:
        """`drained` is called with a pool one of whose containers makes room; `under_way` returns all pools with a container that ends."""
        self._pools = pools
        self._nodes = nodes
        self._ingress = ingress
        self._note = note  # writes one line to the log of the pool's app
        self._drained, self._under_way = drained, under_way
        self._kinds: dict[Capacity, Capacity] = {}  # one object for each kind of machine

    async def count(self) -> None:
        """Count all rooms ahead of the first start, which would have to count them in one piece."""
        for number, mirror in enumerate(self._nodes.taking()):
            self._room(mirror)
            if number % TURN == TURN - 1:
                await asyncio.sleep(0)

    def fits(self, pools: Collection[Pool]) -> bool:
        """Return whether there is room for one more container of each of these pools."""
        rooms = {mirror.name: self._room(mirror) for mirror in self._nodes.taking()}
        for pool in pools:
            offers = scheduler.offers(pool.function, rooms.values())
            place = scheduler.place(offers)
            if place is None:
                return False
            needs = scheduler.needs(pool.function, rooms[place.node].capacity)
            rooms[place.node] = scheduler.less(rooms[place.node], needs, place)
        return True

    def has_places(self, new: Collection[Pool], old: Collection[Pool]) -> bool:
        """Return whether each of the new pools could have one more container while the old ones keep theirs.

        Idle containers of other functions can make way, but for those that their functions are to have all the time.
        """
        rooms = [self._room(mirror) for mirror in self._nodes.taking()]
        # Some of the last places are for apps without a container.
        free = sum(
            room.limit - scheduler.reserve(room.limit) // 2 - room.containers for room in rooms
        )
        both = {pool.key for pool in (*new, *old)}
        for other in self._pools:
            if len(new) <= free:
                break
            if other.members and other.key not in both and not other.demand:
                free += max(0, len(other.idle()) - other.least)
        return len(new) <= free

    def may_start(self, pool: Pool) -> bool:
        """Return whether a start may be tried: no back-off, a free port, a machine with such resources."""
        if now() < pool.retry_at:
            return False
        if not all(self._port_is_free(pool, port) for port in pool.ports):
            return False
        capacities = self._nodes.capacities()
        why = scheduler.impossible(pool.function, capacities)
        kind = self._nodes.addable.fitting(pool.function, capacities) if why else None
        if kind is not None:
            self._await_machine(pool, kind.name, why)
            return False
        pool.awaits_since = 0.0
        if why and not pool.ephemeral:
            self._note(pool, f"cannot start: it {why}")
            pool.failed(StartError(f"`{pool.function.name}` {why}"), now())
            return False
        return True

    def _await_machine(self, pool: Pool, kind: str, why: str) -> None:
        """Have a pool wait for a machine that Ray could add; refuse what waits if none has come for too long."""
        if not pool.awaits_since:
            pool.awaits_since, pool.lacks = now(), f"a machine `{kind}` of the Ray cluster"
            self._note(pool, f"waits for {pool.lacks}: it {why}")
        elif now() - pool.awaits_since > MACHINE_S:
            pool.awaits_since = 0.0
            text = f"no machine `{kind}` of the Ray cluster came within {MACHINE_S / 60:.0f} minutes, and `{pool.function.name}` {why}"
            self._note(pool, text)
            hint = "`ray status` on the Ray cluster says what it adds; `ray_node_types` has to be as in its configuration"
            pool.failed(StartError(text, hint=hint), now())

    def place(self, pool: Pool) -> scheduler.Place | None:
        """Return the place for the pool's next container; None if it must wait, which is logged once."""
        offers = self._offers(pool)
        # The first ones: a function that is to have two containers survives the death of a node.
        spread = len(pool.members) - pool.away < pool.least
        place = scheduler.place(offers, spread=spread)
        if place is not None and spread and self._waits_for_image(pool, place.node):
            pool.crowded, pool.lacks = False, AN_IMAGE
            return None
        lacks = "" if place is not None else scheduler.lack_of_all(offers)
        pool.crowded = bool(offers) and all(scheduler.full(room) for room, _ in offers)
        if not lacks and self._others_come_first(pool):
            lacks = "a place: functions with fewer containers come first"
        if lacks and not pool.lacks:
            self._note(pool, f"waits for {lacks}")
        pool.lacks = lacks
        return None if lacks else place

    def _waits_for_image(self, pool: Pool, node: str) -> bool:
        """Return whether the pool has a container on this node, and another one builds its image and has none."""
        image, taken = pool.function.image, self._nodes_of(pool)
        return node in taken and any(
            mirror.stock.is_building(image) and mirror.name not in taken
            for mirror in self._nodes.taking()
            if mirror.capacity is not None and scheduler.suits(pool.function, mirror.capacity)
        )

    def _nodes_of(self, pool: Pool) -> Counter[str]:
        """Return how many of the pool's containers each node has."""
        if len(self._nodes.mirrors) == 1 or not pool.members:
            return Counter()
        there = (self._nodes.of(container) for container in pool.members)
        return Counter(mirror.name for mirror in there if mirror is not None)

    async def make(self, pool: Pool) -> None:
        """Drain an idle container of another pool, if it has the resource that this pool waits for.

        Not for a pool whose starts fail and that has no requests: its `min_containers` would end the
        others' containers again and again.
        """
        if pool.lacks == AN_IMAGE or (pool.failures and not pool.parked):
            return
        offers = {room.node: (room, needs) for room, needs in self._offers(pool)}

        def helps(container: str) -> bool:
            mirror = self._nodes.of(container)
            if mirror is None or mirror.name not in offers:
                return False
            return scheduler.helps(mirror.containers[container].order, *offers[mirror.name])

        if any(helps(name) for other in self._under_way() for name in other.leaving()):
            return  # a container that is ending makes room already
        counts = self._pools.of_function
        share = self._share(counts, pool)
        own_count = counts[pool.key.base]
        others = [other for other in self._pools if other.members and other is not pool]
        for number, other in enumerate(sorted(others, key=lambda other: -counts[other.key.base])):
            if number % TURN == TURN - 1:  # with so many pools, other work must not wait
                await asyncio.sleep(0)
            if not scheduler.may_evict(own_count, counts[other.key.base], share):
                continue
            # A container of a deploy's trial may end: an app may have more functions than places.
            if other.demand or len(idle := other.idle()) <= other.least:
                continue
            for member in idle:
                if helps(member.id):
                    other.rest()
                    await self._ingress.drain(other.key, member.id)
                    member.stage = Stage.DRAINING
                    self._drained(other)
                    return
        full = all(scheduler.full(room) for room, _ in offers.values())
        if full and self._pools.of_container(pool.promised) is None:
            await self._take_busy(pool, counts, share)

    async def _take_busy(self, pool: Pool, counts: Counter[PoolKey], share: int) -> None:
        """Drain a busy container of a function with more than its share; its running requests finish."""
        own_count = counts[pool.key.base]
        others = [(counts[other.key.base], other) for other in self._pools if other.members]
        for theirs, other in sorted(others, key=lambda counted: -counted[0]):
            if not scheduler.must_yield(own_count, theirs, share):
                continue
            ready = [m for m in other.members.values() if m.stage is Stage.READY and not m.away]
            if ready:
                member = min(ready, key=lambda m: other.load.per_container.get(m.id, 0))
                await self._ingress.drain(other.key, member.id)
                member.stage, pool.promised = Stage.DRAINING, member.id
                self._drained(other)
                return

    def _others_come_first(self, pool: Pool) -> bool:
        """Return whether a function below its share waits for a place, while this pool has its share."""
        crowded = [other for other in self._pools if other.crowded and other.demand]
        if not crowded:
            return False
        counts = self._pools.of_function
        share = self._share(counts, pool)
        return counts[pool.key.base] >= share and any(
            counts[other.key.base] < share for other in crowded
        )

    def _share(self, counts: Counter[PoolKey], pool: Pool) -> int:
        places = sum(capacity.places for capacity in self._nodes.capacities())
        return scheduler.share(places, len(counts) + (pool.key.base not in counts))

    def _offers(self, pool: Pool) -> list[tuple[scheduler.Room, scheduler.Needs]]:
        """Return each node's free room for the pool, and the needs of the pool's next container there.

        The room that is kept for pools with fewer containers is left out. Of the nodes only those are returned that have
        what the function asks for, if there are any, and of these only those with its image, if there are any.
        """
        counts, function = self._pools.of_function, pool.function
        standing = scheduler.Standing(
            function=counts[pool.key.base],
            app=self._pools.of_owner[pool.owner],
        )
        hungry, taken = self._pools.hungry(), self._nodes_of(pool)
        image = function.image.key if function.image.has_environment else ""
        # There may be a thousand nodes of few kinds.
        kinds: dict[int, tuple[bool, scheduler.Needs, int]] = {}
        best, offers = (False, False), list[tuple[scheduler.Room, scheduler.Needs]]()
        for mirror in self._nodes.taking():
            # The dashboard gets the tokens of its visitors, so it runs on the server's own machine alone.
            if pool.owner.scope == SYSTEM and mirror.name != HERE:
                continue
            room = self._room(mirror)
            if (kind := kinds.get(id(room.capacity))) is None:
                kind = kinds[id(room.capacity)] = (
                    scheduler.suits(function, room.capacity),
                    scheduler.needs(function, room.capacity),
                    scheduler.reserved_mib(hungry, room.capacity),
                )
            suits, needs, kept_mib = kind
            rank = suits, not image or mirror.stock.has_built(image)
            if rank < best:
                continue
            if rank > best:
                best, offers = rank, []
            room = scheduler.open_to(
                room,
                standing,
                kept_mib,
                has_image=rank[1],
                is_warm=mirror.stock.is_warm(pool.key),
                own=taken[mirror.name],
            )
            offers.append((room, needs))
        return offers

    def _room(self, mirror: Mirror) -> scheduler.Room:
        """Return a node's free room; counted again only after a change, because there may be a thousand nodes."""
        counted = mirror.counted
        if counted is None or counted[0] != mirror.changes or counted[1] is not mirror.capacity:
            assert mirror.capacity is not None  # it has answered
            there = [container.order for container in mirror.containers.values()]
            room = scheduler.room(mirror.name, self._kind(mirror.capacity), there)
            counted = mirror.counted = mirror.changes, mirror.capacity, room
        free: scheduler.Room = counted[2]
        return free

    def _kind(self, capacity: Capacity) -> Capacity:
        """Return the same object for machines that have the same resources."""
        if len(self._kinds) > 2 * len(self._nodes.mirrors) + 100:
            self._kinds.clear()
        return self._kinds.setdefault(capacity, capacity)

    def _port_is_free(self, pool: Pool, port: int) -> bool:
        holder = self._pools.holder_of_port(port)
        if holder is None:
            return True
        if (holder.owner, holder.key.function) != (pool.owner, pool.key.function):
            owner = "another workspace's app"
            if holder.owner.scope.workspace == pool.owner.scope.workspace:
                owner = f"`{holder.key.function}` of the app `{holder.key.app}`"
            pool.refuse(PortTaken(f"port {port} belongs to {owner}"))
        return False
