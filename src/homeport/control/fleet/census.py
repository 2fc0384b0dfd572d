"""Counts what each node has, what of it is free, and how it answers; for `/metrics`."""

from homeport.contract.dataclass import dataclass
from homeport.control.fleet import scheduler
from homeport.control.fleet.mirror import Mirror
from homeport.control.fleet.nodes import Nodes
from homeport.control.turns import in_turns


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNumbers:
    """One node; what is None is not known yet."""

    name: str
    state: str  # `ready`, `drained`, `suspect` or `gone`
    containers: int
    places_free: int | None = None
    cores_free: float | None = None  # that no container's `cpu` asks for
    memory_free_mib: int | None = None  # that no container's `memory` asks for
    accelerators_free: int | None = None
    round_trip_s: float | None = None


async def of(nodes: Nodes) -> tuple[NodeNumbers, ...]:
    """Return the numbers of every node, by name."""
    mirrors = sorted(nodes.mirrors.values(), key=lambda mirror: mirror.name)
    return tuple([_numbers(mirror) async for mirror in in_turns(mirrors)])


def _numbers(mirror: Mirror) -> NodeNumbers:
    free = {}
    if mirror.capacity is not None:
        orders = (container.order for container in mirror.containers.values())
        room = scheduler.room(mirror.name, mirror.capacity, orders)
        free = {
            "places_free": max(room.limit - room.containers, 0),
            "cores_free": room.cores,
            "memory_free_mib": room.memory_mib,
            "accelerators_free": len(room.accelerators),
        }
    return NodeNumbers(
        name=mirror.name,
        state=mirror.state,
        containers=len(mirror.containers),
        round_trip_s=mirror.round_trip_s,
        **free,  # type: ignore[arg-type] # each of its own type
    )
