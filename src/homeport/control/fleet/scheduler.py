"""PURE: chooses the node for a container, and its devices there; shares places between functions."""

import dataclasses
from collections.abc import Iterable, Sequence

from homeport.contract import labels
from homeport.contract.capacity import Accelerator, Capacity
from homeport.contract.container import StartOrder
from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import FunctionSpec
from homeport.control.fleet import accelerators


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The resources that a container reserves while it runs."""

    memory_mib: int = 0
    gpu: tuple[str, ...] = ()  # in order of preference
    #: A wish: a node with fewer free cores is taken too, because cores can be shared.
    cores: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The free resources of a node."""

    node: str
    capacity: Capacity  # the whole of it
    containers: int  # how many containers it runs now
    limit: int  # how many containers it may run
    memory_mib: int = 0  # memory that is not reserved
    accelerators: tuple[Accelerator, ...] = ()  # accelerators that are free
    has_image: bool = True  # the node has the image of the container that needs a place
    is_warm: bool = False  # a container of its function was ready there, so a zygote may be
    cores: float = 0.0  # cores that no container's `cpu` asks for; less than 0 if they ask for more than there are
    own: int = 0  # how many containers of the same function's version it runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a container: a node, and devices."""

    node: str
    devices: tuple[str, ...] = ()  # ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many containers a function and its app have, when the function wants one more."""

    function: int = 0  # containers of the function's version, whatever its class parameters
    app: int = 0  # containers of the app


def open_to(
    room: Room,
    standing: Standing,
    reserved_mib: int = 0,
    *,
    has_image: bool = True,
    is_warm: bool = False,
    own: int = 0,
) -> Room:
    """Return the part of a room that a function with this standing may use.

    The last places are for functions without a container, and half of those for apps without one, so no
    function, app or visitor can take all places. `reserved_mib` is memory that functions without a container
    would need.

    >>> there = Capacity(cores=4, memory_mib=0)
    >>> room = Room(node="a", capacity=there, containers=57, limit=64)
    >>> [open_to(room, Standing(function=n, app=n)).limit for n in (0, 1)]
    [64, 56]
    """
    limit, memory_mib = room.limit, room.memory_mib
    if standing.function and standing.app:
        limit -= reserve(limit)
        memory_mib = max(0, memory_mib - reserved_mib)
    elif standing.app:
        limit -= reserve(limit) // 2
    # Not `replace`, which takes twice as long: there may be a thousand nodes.
    return Room(
        node=room.node,
        capacity=room.capacity,
        containers=room.containers,
        limit=limit,
        memory_mib=memory_mib,
        accelerators=room.accelerators,
        has_image=has_image,
        is_warm=is_warm,
        cores=room.cores,
        own=own,
    )


def reserve(limit: int) -> int:
    """Return how many of a node's places are kept for functions without a container.

    >>> [reserve(limit) for limit in (1, 2, 4, 16, 64, 256)]
    [0, 1, 2, 2, 8, 32]
    """
    return min(max(2, limit // 8), limit // 2)


def reserved_mib(asked_mib: Iterable[int], capacity: Capacity) -> int:
    """Return how much of a node's memory to keep for functions without a container, which ask for so much each.

    At most an eighth of the node's memory; a function that needs more waits.

    >>> reserved_mib([100, 600], Capacity(cores=4, memory_mib=4000))
    100
    """
    most_mib = capacity.memory_mib // 8
    needs_mib = (min(mib, capacity.memory_mib) for mib in asked_mib)
    return max((memory_mib for memory_mib in needs_mib if memory_mib <= most_mib), default=0)


def share(limit: int, functions: int) -> int:
    """Return each function's share of the places, if all of these want as many as possible.

    >>> share(64, 3)
    18
    """
    return max(1, (limit - reserve(limit)) // max(1, functions))


def must_yield(own: int, theirs: int, share: int) -> bool:
    """Return whether a function with `theirs` containers must give up a busy one for one with `own`.

    >>> must_yield(1, 56, 18), must_yield(18, 56, 18), must_yield(1, 18, 18)
    (True, False, False)
    """
    return own < share < theirs


def may_evict(own: int, theirs: int, share: int) -> bool:
    """Return whether a function with `own` containers may end an idle one of a function with `theirs`.

    >>> may_evict(0, 1, 18), may_evict(20, 1, 18), may_evict(20, 19, 18)
    (True, False, True)
    """
    return own < share or theirs > share


def offers(function: FunctionSpec, rooms: Iterable[Room]) -> list[tuple[Room, Needs]]:
    """Return the nodes that could run a container of the function, and the container's needs there.

    Only nodes that have its image, if there is one. If no node has all that the function asks for, each node
    offers the part that it has. This happens for `serve` only: a deploy was refused before.
    """
    there = list(rooms)
    there = [room for room in there if not impossible(function, [room.capacity])] or there
    there = [room for room in there if room.has_image] or there
    return [(room, needs(function, room.capacity)) for room in there]


def place(offers: Sequence[tuple[Room, Needs]], *, spread: bool = False) -> Place | None:
    """Return the best node that has room; None if no node has enough.

    First the nodes with enough free cores, then those where the function is warm, then the one with the most room.
    With `spread` first the nodes with the fewest containers of the function: the death of one leaves the others.

    >>> there = Capacity(cores=4, memory_mib=0)
    >>> rooms = [Room(node=n, capacity=there, containers=c, limit=4) for n, c in (("a", 3), ("b", 0))]
    >>> place([(room, Needs()) for room in rooms]).node
    'b'
    >>> warm = dataclasses.replace(rooms[0], is_warm=True)
    >>> place([(warm, Needs()), (rooms[1], Needs())]).node
    'a'
    >>> own = dataclasses.replace(warm, own=1)
    >>> place([(own, Needs()), (rooms[1], Needs())], spread=True).node
    'b'
    """
    fitting = [(room, needs) for room, needs in offers if not lack(room, needs)]
    if not fitting:
        return None
    room, needs = max(fitting, key=lambda offer: (-offer[0].own if spread else 0, _rank(*offer)))
    devices = accelerators.choose(needs.gpu, room.accelerators) or ()
    return Place(node=room.node, devices=tuple(device.id for device in devices))


def _rank(room: Room, needs: Needs) -> tuple[bool, bool, int, int]:
    return room.cores >= needs.cores, room.is_warm, room.memory_mib, room.limit - room.containers


def lack_of_all(offers: Sequence[tuple[Room, Needs]]) -> str:
    """Return the resource that the best node lacks now, in words; empty if a node has room."""
    if not offers:
        return "a node: none answers"
    if any(not lack(room, needs) for room, needs in offers):
        return ""
    room, needs = max(offers, key=lambda offer: _rank(*offer))
    return lack(room, needs)


def lack(room: Room, needs: Needs) -> str:
    """Return the resource that a node lacks now, in words; empty if there is room.

    >>> there = Capacity(cores=4, memory_mib=0)
    >>> lack(Room(node="a", capacity=there, containers=4, limit=4), Needs())
    'a place: 4 containers run'
    """
    if full(room):
        return f"a place: {room.containers} containers run"
    if needs.memory_mib > room.memory_mib:
        return f"{needs.memory_mib} MiB of memory: {room.memory_mib} are left"
    if needs.gpu and accelerators.choose(needs.gpu, room.accelerators) is None:
        return f"a GPU ({' or '.join(needs.gpu)}): all are in use"
    return ""


def full(room: Room) -> bool:
    """Return whether a node has no place left for any container."""
    return room.containers >= room.limit


def less(room: Room, needs: Needs, place: Place) -> Room:
    """Return the room that is left after one more container."""
    return dataclasses.replace(
        room,
        containers=room.containers + 1,
        memory_mib=room.memory_mib - needs.memory_mib,
        cores=room.cores - needs.cores,
        accelerators=tuple(d for d in room.accelerators if d.id not in place.devices),
    )


def helps(order: StartOrder, room: Room, needs: Needs) -> bool:
    """Return whether the end of this container frees a resource that is lacking.

    The end of this one may not be enough: if two devices are wanted, two containers may have to end.
    """
    if full(room):
        return True
    if needs.memory_mib > room.memory_mib:
        memory_mib = order.function.memory_mib
        return memory_mib is not None and memory_mib[0] > 0
    theirs = [d for d in room.capacity.accelerators if d.id in order.devices]
    return any(accelerators.could_be(wish, d) for wish in needs.gpu for d in theirs)


def room(node: str, capacity: Capacity, there: Iterable[StartOrder]) -> Room:
    """Return the room that these containers leave on a node."""
    orders = list(there)
    used_devices = {device for order in orders for device in order.devices}
    requested_mib = sum(o.function.memory_mib[0] for o in orders if o.function.memory_mib)
    return Room(
        node=node,
        capacity=capacity,
        containers=len(orders),
        limit=capacity.places,
        memory_mib=max(0, capacity.memory_mib - requested_mib),
        cores=capacity.cores - sum(map(_cores, (order.function for order in orders))),
        accelerators=tuple(d for d in capacity.accelerators if d.id not in used_devices),
    )


def needs(function: FunctionSpec, capacity: Capacity) -> Needs:
    """Return the needs of the function's containers, limited to what this node has at all."""
    asked_mib = function.memory_mib[0] if function.memory_mib else 0
    has_gpu = accelerators.choose(function.gpu, capacity.accelerators) is not None
    return Needs(
        memory_mib=min(asked_mib, capacity.memory_mib),
        gpu=function.gpu if has_gpu else (),
        cores=min(_cores(function), capacity.cores),
    )


def _cores(function: FunctionSpec) -> float:
    return function.cpu[0] if function.cpu else 0.0


def impossible(function: FunctionSpec, nodes: Sequence[Capacity]) -> str:
    """Return the resource that the function asks for and no node has, in words; empty if one node has all.

    For several nodes, the text describes the node with the most memory.
    """
    if not nodes or any(suits(function, capacity) for capacity in nodes):
        return ""
    return _missing(function, max(nodes, key=lambda capacity: capacity.memory_mib))


def suits(function: FunctionSpec, capacity: Capacity) -> bool:
    """Return whether containers of the function can run on a node like this, if it has room."""
    return not _missing(function, capacity)


def _missing(function: FunctionSpec, capacity: Capacity) -> str:
    has_regions = function.region and capacity.region is not None
    if has_regions and not labels.in_region(capacity.region or "", function.region):
        return f"is for the region {' or '.join(function.region)}, and no machine that answers is in it"
    if function.volumes and not capacity.has_mounts:
        return "has volumes, and no machine that answers can mount them"
    if function.restrict_modal_access and not (capacity.has_mounts or capacity.isolated):
        return "has `restrict_modal_access=True`, and no machine that answers isolates containers"
    if function.block_network and not capacity.networks:
        return "has `block_network=True`, and no machine that answers has networks for containers"
    if function.gpu and accelerators.choose(function.gpu, capacity.accelerators) is None:
        there = accelerators.in_words(capacity.accelerators)
        return f"asks for a GPU ({' or '.join(function.gpu)}), and this machine has {there}"
    asked_mib = function.memory_mib[0] if function.memory_mib else 0
    if asked_mib > capacity.memory_mib:
        return f"asks for {asked_mib} MiB of memory, and this machine has {capacity.memory_mib}"
    return ""
