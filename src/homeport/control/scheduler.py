"""Which node a container goes to, and which devices it has there. Pure."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homeport.contract.capacity import Accelerator, Capacity
from homeport.contract.container import ContainerSpec
from homeport.contract.manifest import FunctionSpec
from homeport.control import accelerators


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a container takes from everybody else while it lives."""

    memory_mib: int = 0
    gpu: tuple[str, ...] = ()  # in order of preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a node has left."""

    node: str
    containers: int  # that it runs now
    limit: int  # that it may run at most
    memory_mib: int = 0  # that nobody has asked for
    accelerators: tuple[Accelerator, ...] = ()  # that nobody has


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a container goes."""

    node: str
    devices: tuple[str, ...] = ()  # ids


def place(rooms: Sequence[Room], needs: Needs) -> Place | None:
    """The node with the most room, or None where none has enough.

    >>> rooms = [Room(node="a", containers=3, limit=4), Room(node="b", containers=0, limit=4)]
    >>> place(rooms, Needs()).node
    'b'
    """
    fitting = [room for room in rooms if not lack(room, needs)]
    if not fitting:
        return None
    room = max(fitting, key=lambda room: (room.memory_mib, room.limit - room.containers))
    devices = accelerators.choose(needs.gpu, room.accelerators) or ()
    return Place(node=room.node, devices=tuple(device.id for device in devices))


def lack(room: Room, needs: Needs) -> str:
    """What a node has too little of now, in words; empty when there is room.

    >>> lack(Room(node="a", containers=4, limit=4), Needs())
    'a place: 4 containers run'
    """
    if room.containers >= room.limit:
        return f"a place: {room.containers} containers run"
    if needs.memory_mib > room.memory_mib:
        return f"{needs.memory_mib} MiB of memory: {room.memory_mib} are left"
    if needs.gpu and accelerators.choose(needs.gpu, room.accelerators) is None:
        return f"a GPU ({' or '.join(needs.gpu)}): all are in use"
    return ""


def less(room: Room, needs: Needs, place: Place) -> Room:
    """What one more container leaves of a room."""
    return dataclasses.replace(
        room,
        containers=room.containers + 1,
        memory_mib=room.memory_mib - needs.memory_mib,
        accelerators=tuple(d for d in room.accelerators if d.id not in place.devices),
    )


def helps(container: ContainerSpec, room: Room, needs: Needs, capacity: Capacity) -> bool:
    """Whether a container that goes leaves more of what there is too little of.

    One may not be enough: a wish for two devices takes two containers' ends.
    """
    if room.containers >= room.limit:
        return True
    if needs.memory_mib > room.memory_mib:
        return container.memory_mib is not None and container.memory_mib[0] > 0
    theirs = [d for d in capacity.accelerators if d.id in container.devices]
    return any(accelerators.could_be(wish, d) for wish in needs.gpu for d in theirs)


def room(node: str, capacity: Capacity, there: Iterable[ContainerSpec], limit: int) -> Room:
    """What these containers leave of a node."""
    specs = list(there)
    taken = {device for spec in specs for device in spec.devices}
    asked_mib = sum(spec.memory_mib[0] for spec in specs if spec.memory_mib)
    return Room(
        node=node,
        containers=len(specs),
        limit=limit,
        memory_mib=max(0, capacity.memory_mib - asked_mib),
        accelerators=tuple(d for d in capacity.accelerators if d.id not in taken),
    )


def needs(function: FunctionSpec, capacity: Capacity) -> Needs:
    """What a container of the function takes, as far as this node could ever give it."""
    asked_mib = function.memory_mib[0] if function.memory_mib else 0
    has_gpu = accelerators.choose(function.gpu, capacity.accelerators) is not None
    return Needs(
        memory_mib=min(asked_mib, capacity.memory_mib), gpu=function.gpu if has_gpu else ()
    )


def impossible(function: FunctionSpec, capacity: Capacity) -> str:
    """What the function asks for and this node never has, in words; empty when all is well."""
    if function.gpu and accelerators.choose(function.gpu, capacity.accelerators) is None:
        there = accelerators.in_words(capacity.accelerators)
        return f"asks for a GPU ({' or '.join(function.gpu)}), and this machine has {there}"
    asked_mib = function.memory_mib[0] if function.memory_mib else 0
    if asked_mib > capacity.memory_mib:
        return f"asks for {asked_mib} MiB of memory, and this machine has {capacity.memory_mib}"
    return ""
