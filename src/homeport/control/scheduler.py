"""Which node a container goes to. Pure; with one node, it says whether there is room."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a node has left."""

    node: str
    containers: int  # that it runs now
    limit: int  # that it may run at most


def place(rooms: Sequence[Room]) -> str | None:
    """The node with the most room, or None where all are full.

    >>> place([Room(node="a", containers=3, limit=4), Room(node="b", containers=0, limit=4)])
    'b'
    """
    free = [room for room in rooms if room.containers < room.limit]
    if not free:
        return None
    return max(free, key=lambda room: room.limit - room.containers).node
