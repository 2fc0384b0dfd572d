"""The search for a place in its plain form, which looks at everything: what `rooms` finds must equal it."""

import dataclasses
from collections import Counter

from homeport.control.fleet import scheduler
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools


def offers(pools: Pools, nodes: Nodes, pool: Pool) -> list[tuple[scheduler.Room, scheduler.Needs]]:
    """Return each node's room for the pool's next container, and its needs there."""
    counts = Counter(other.key.base for other in pools for _ in other.members)
    standing = scheduler.Standing(
        function=counts[pool.key.base],
        app=sum(len(other.members) for other in pools if other.owner == pool.owner),
    )
    asked_mib = [
        other.function.memory_mib[0]
        for other in pools
        if other.function.memory_mib and not counts[other.key.base] and not other.retired
    ]
    several = len(nodes.mirrors) > 1
    rooms = []
    for mirror in sorted(nodes.mirrors.values(), key=lambda mirror: mirror.name):
        if mirror not in nodes.taking():
            continue
        there = [container.order for container in mirror.containers.values()]
        room = dataclasses.replace(
            scheduler.room(mirror.name, mirror.capacity, there),
            has_image=mirror.stock.has_image(pool.function.image),
            is_warm=mirror.stock.is_warm(pool.key),
            own=sum(name in mirror.containers for name in pool.members) if several else 0,
        )
        kept_mib = scheduler.reserved_mib(asked_mib, mirror.capacity)
        open_room = scheduler.open_to(room, standing, kept_mib)
        rooms.append(
            dataclasses.replace(
                open_room, has_image=room.has_image, is_warm=room.is_warm, own=room.own
            )
        )
    return scheduler.offers(pool.function, rooms)
