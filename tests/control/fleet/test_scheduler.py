"""On which node a container is placed, and which containers make room for it."""

from hypothesis import given
from hypothesis import strategies as st

from homeport.contract.capacity import Capacity
from homeport.contract.container import StartOrder
from homeport.contract.manifest import FunctionSpec
from homeport.control.fleet import scheduler
from homeport.control.fleet.scheduler import Needs
from tests.control.fleet.test_accelerators import devices
from tests.orders import order

CAPACITY = Capacity(cores=4, memory_mib=8000, accelerators=tuple(devices("l4", "l4", "h100")))


def container(number: int, **changes) -> StartOrder:
    """Return a container that runs."""
    return order(f"ta-{number}", **changes)


def function(**changes) -> FunctionSpec:
    """Return a function that asks for these resources."""
    return FunctionSpec(name="f", module="m", qualname="f", **changes)


def test_memory_and_devices_that_containers_ask_for_are_nobody_elses():
    there = [container(1, memory_mib=(6000, None), devices=("GPU-0",)), container(2)]
    room = scheduler.room("here", CAPACITY, there)

    assert (2, 2000) == (room.containers, room.memory_mib)
    assert ("GPU-1",) == scheduler.place([(room, Needs(gpu=("L4",)))]).devices
    assert scheduler.place([(room, Needs(gpu=("L4:2",)))]) is None
    assert scheduler.place([(room, Needs(memory_mib=2001))]) is None
    assert "a GPU (L4:2): all are in use" == scheduler.lack(room, Needs(gpu=("L4:2",)))
    assert "2001 MiB of memory: 2000 are left" == scheduler.lack(room, Needs(memory_mib=2001))
    assert scheduler.helps(there[0], room, Needs(gpu=("L4:2",)))
    assert not scheduler.helps(there[1], room, Needs(gpu=("L4:2",)))
    assert not scheduler.helps(there[0], room, Needs(gpu=("H100:2",)))
    assert scheduler.helps(there[0], room, Needs(memory_mib=2001))
    assert not scheduler.helps(there[0], room, Needs(memory_mib=2000))  # there is enough
    assert not scheduler.helps(there[1], room, Needs(memory_mib=2001))
    assert not scheduler.helps(container(3, memory_mib=(0, 9)), room, Needs(memory_mib=2001))


def test_a_resource_that_no_machine_has_is_reported_and_not_waited_for():
    greedy = function(gpu=("B200",), memory_mib=(9000, None))

    assert "asks for a GPU (B200), and this machine has 2 NVIDIA L4, 1 NVIDIA H100 80GB HBM3" == (
        scheduler.impossible(greedy, [CAPACITY])
    )
    assert "asks for 9000 MiB of memory, and this machine has 8000" == (
        scheduler.impossible(function(memory_mib=(9000, None)), [CAPACITY])
    )
    assert "" == scheduler.impossible(function(gpu=("B200", "L4:2")), [CAPACITY])
    assert Needs(memory_mib=8000) == scheduler.needs(greedy, CAPACITY)


@given(st.lists(st.sampled_from([("L4",), ("L4:2",), ("H100", "L4"), ("any",), ("any:2",), ()])))
def test_no_device_is_ever_two_containers(wishes):
    there: list[StartOrder] = []
    for number, wish in enumerate(wishes):
        room = scheduler.room("here", CAPACITY, there)
        if (place := scheduler.place([(room, Needs(gpu=wish))])) is not None:
            there.append(container(number, devices=place.devices))

    taken = [device for each in there for device in each.devices]
    assert len(set(taken)) == len(taken)


@given(
    limit=st.integers(4, 300),
    starts=st.lists(st.integers(0, 20), min_size=1, max_size=400),
)
def test_one_app_never_takes_all_places_and_one_function_fewer_still(limit, starts):
    counts = dict.fromkeys(range(21), 0)
    for function in starts:
        standing = scheduler.Standing(function=counts[function], app=sum(counts.values()))
        room = scheduler.Room(
            node="a", capacity=CAPACITY, containers=sum(counts.values()), limit=limit
        )
        if not scheduler.lack(scheduler.open_to(room, standing), Needs()):
            counts[function] += 1
    kept = scheduler.reserve(limit)
    full = scheduler.Room(node="a", capacity=CAPACITY, containers=sum(counts.values()), limit=limit)
    stranger = scheduler.open_to(full, scheduler.Standing())

    assert max(counts.values()) <= limit - kept
    assert sum(counts.values()) <= limit - kept // 2
    assert "" == scheduler.lack(stranger, Needs())


def test_memory_is_kept_for_those_who_need_little_of_it():
    kept = scheduler.reserved_mib([500, 4000], CAPACITY)
    room = scheduler.Room(node="a", capacity=CAPACITY, containers=1, limit=64, memory_mib=2000)

    assert 500 == kept
    assert 0 == scheduler.reserved_mib([4000], CAPACITY)
    assert 1500 == scheduler.open_to(room, scheduler.Standing(function=1, app=1), kept).memory_mib
    assert 2000 == scheduler.open_to(room, scheduler.Standing(function=0, app=1), kept).memory_mib


@given(
    counts=st.lists(st.integers(0, 64), min_size=2, max_size=20),
    limit=st.integers(8, 300),
    data=st.data(),
)
def test_a_function_without_a_container_may_take_an_idle_place_and_nobody_is_pushed_below_a_share(
    counts, limit, data
):
    share = scheduler.share(limit, len(counts))
    mine, theirs = (data.draw(st.sampled_from(counts)) for _ in range(2))

    assert scheduler.may_evict(0, theirs, share)
    if mine >= share and theirs <= share:
        assert not scheduler.may_evict(mine, theirs, share)


def test_a_region_counts_as_soon_as_a_machine_has_one():
    there = {
        name: Capacity(cores=1, memory_mib=1, region=name) for name in ("us-east", "eu", "usa", "")
    }

    def fits(*wanted: str) -> list[str]:
        return [n for n, c in there.items() if scheduler.suits(function(region=wanted), c)]

    assert ["us-east"] == fits("us")
    assert ["us-east", "eu"] == fits("us-east", "eu")
    assert [] == fits("us-east-1")
    assert [*there] == fits()
    assert scheduler.suits(function(region=("us",)), CAPACITY)
    why = scheduler.impossible(function(region=("ap", "sa")), [*there.values()])
    assert "is for the region ap or sa, and no machine that answers is in it" == why
