"""Where a container goes, among many nodes: the quick search finds what the plain one does."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import node_types
from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, State
from homeport.contract.errors import StartError
from homeport.contract.image import Image, Step
from homeport.contract.manifest import FunctionSpec, VolumeMount
from homeport.contract.scope import MAIN, SYSTEM
from homeport.contract.traffic import PoolKey
from homeport.control.fleet import scheduler
from homeport.control.fleet.addable import Addable
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.mirror import Health
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.rooms import MACHINE_S, Rooms
from tests.control.fleet import whole
from tests.control.fleet.house import House, elapsed
from tests.control.fleet.test_accelerators import devices
from tests.fakes import FakeIngress, FakeNode
from tests.orders import order
from tests.waiting import virtually

IMAGE = Image(steps=(Step(name="pip_install", args={"packages": ["x"]}),))
CAPACITIES = (
    Capacity(cores=4, memory_mib=8000, places=3),
    Capacity(cores=8, memory_mib=4000, places=16),
    Capacity(cores=2, memory_mib=16000, places=8, has_mounts=True),
    Capacity(cores=4, memory_mib=8000, places=8, accelerators=tuple(devices("l4", "h100"))),
)
functions = st.fixed_dictionaries(
    {},
    optional={
        "memory_mib": st.sampled_from([(200, None), (700, None), (3000, None), (20000, None)]),
        "cpu": st.sampled_from([(1.0, None), (6.0, None)]),
        "gpu": st.sampled_from([("L4",), ("H100", "L4")]),
        "image": st.just(IMAGE),
        "volumes": st.just((VolumeMount(path="/v", name="v"),)),
        "min_containers": st.integers(0, 3),
    },
)
nodes_drawn = st.lists(
    st.fixed_dictionaries(
        {
            "capacity": st.sampled_from(CAPACITIES),
            "has_image": st.booleans(),
            "drained": st.booleans(),
            "suspect": st.booleans(),
            # The pools of its containers; those of even ones were ready there.
            "runs": st.lists(st.integers(0, 3), max_size=8),
        }
    ),
    min_size=1,
    max_size=5,
)


class Fleet:
    """Nodes and pools with containers."""

    def __init__(self, nodes: list[dict[str, Any]], specs: list[dict[str, Any]]) -> None:
        self.pools = Pools()
        fakes = [FakeNode(name=f"n{number}") for number in range(len(nodes))]
        self.nodes = Nodes(fakes, on_line=lambda _line: None)
        self.rooms = Rooms(
            self.pools,
            self.nodes,
            FakeIngress(),
            note=lambda _pool, _text: None,
            drained=lambda _pool: None,
            under_way=lambda: self.pools,
        )
        for number, fields in enumerate(specs):
            spec = FunctionSpec(name=f"f{number}", module="m", qualname="f", **fields)
            owner = Owner.app(MAIN, f"app-{number % 2}")
            key = PoolKey(owner.name, spec.name, "rv-1")
            self.pools.add(Pool(key=key, function=spec, source="", owner=owner))
        for mirror, node in zip(self.nodes.mirrors.values(), nodes, strict=True):
            mirror.capacity, mirror.drained = node["capacity"], node["drained"]
            mirror.health = Health.SUSPECT if node["suspect"] else Health.READY
            if node["has_image"]:
                mirror.stock._images.add(IMAGE.key)
            for number, of in enumerate(node["runs"]):
                self.run(mirror, [*self.pools][of % len(specs)], f"{mirror.name}-{number}")

    def run(self, mirror, pool: Pool, name: str) -> None:
        free = [
            device
            for device in mirror.capacity.accelerators
            if all(device.id not in c.order.devices for c in mirror.containers.values())
        ]
        asked = order(
            name,
            app=pool.key.app,
            function=pool.key.function,
            memory_mib=pool.function.memory_mib,
            cpu=pool.function.cpu,
            devices=tuple(device.id for device in free[:1] if pool.function.gpu),
        )
        is_ready = len(mirror.containers) % 2 == 0
        state = State.READY if is_ready else State.STARTING
        mirror._put(Container(order=asked, state=state, node=mirror.name))
        self.pools.enlist(pool, Member(id=name, stage=Stage.READY if is_ready else Stage.STARTING))


@given(nodes_drawn, st.lists(functions, min_size=1, max_size=4), st.data())
def test_the_place_is_that_of_the_plain_search_also_after_changes(nodes, specs, data):
    async def story() -> None:
        fleet = Fleet(nodes, specs)
        for number in range(3):
            for pool in fleet.pools:
                expected = whole.offers(fleet.pools, fleet.nodes, pool)
                found = fleet.rooms._offers(pool)
                spread = data.draw(st.booleans())

                assert expected == found
                assert scheduler.place(expected, spread=spread) == scheduler.place(
                    found, spread=spread
                )
                assert scheduler.lack_of_all(expected) == scheduler.lack_of_all(found)
            pool = data.draw(st.sampled_from([*fleet.pools]))
            mirror = data.draw(st.sampled_from([*fleet.nodes.mirrors.values()]))
            change = data.draw(st.sampled_from(["start", "end", "retire", "revive", "remove"]))
            if change == "start":
                fleet.run(mirror, pool, f"new-{number}")
            elif change == "end" and pool.members:
                name = next(iter(pool.members))
                fleet.nodes.of(name)._drop(name)
                fleet.nodes.mirrors[mirror.name].changes += 1
                for other in fleet.nodes.mirrors.values():
                    other.changes += 1
                fleet.pools.discharge(name)
            elif change == "retire":
                pool.retire(0.0)
            elif change == "revive":
                pool.revive()
            elif change == "remove" and not pool.members and len([*fleet.pools]) > 1:
                fleet.pools.remove(pool)

    asyncio.run(story())


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["add", "remove", "start", "end"]))))
def test_the_sizes_that_functions_without_a_container_ask_for_are_counted_right(changes):
    pools, numbers = Pools(), iter(range(1000))
    for number, change in changes:
        key = PoolKey("a", f"f{number}", "rv-1", "n=1" if number % 2 else "")
        pool = pools.get(key)
        if change == "add":
            spec = FunctionSpec(
                name=key.function,
                module="m",
                qualname="f",
                memory_mib=(number // 2 * 100 + 1, None),
            )
            pools.add(Pool(key=key, function=spec, source="", owner=Owner.app(MAIN, "a")))
        elif pool is None:
            continue
        elif change == "remove" and not pool.members:
            pools.remove(pool)
        elif change == "start":
            pools.enlist(pool, Member(id=f"ta-{next(numbers)}"))
        elif change == "end" and pool.members:
            pools.discharge(next(iter(pool.members)))
        counts = pools.of_function

        assert {p.function.memory_mib[0] for p in pools if not counts[p.key.base]} == {
            *pools.hungry()
        }


def test_the_dashboard_runs_on_the_servers_own_machine_alone():
    """It gets the tokens of its visitors, and another machine's root could read them."""

    async def story() -> None:
        larger = FakeNode(name="b", capacity=Capacity(cores=64, memory_mib=64_000, places=64))
        async with House(FakeNode(), larger) as house:
            spec = FunctionSpec(name="dashboard", module="m", qualname="f", min_containers=3)
            owner = Owner.app(SYSTEM, "dashboard")
            key = PoolKey(owner.name, spec.name, "rv-1")
            house.pools.add(Pool(key=key, function=spec, source="", owner=owner))
            house.reconciler.wake()
            await asyncio.sleep(2)

            assert 3 == len(house.node.containers)
            assert [] == list(larger.containers)

    virtually(story())


def test_a_function_that_only_another_machine_could_run_waits_for_one_and_then_is_refused():
    def growing() -> House:
        house = House(FakeNode(0.1, name="a"), region=("eu",), min_containers=1)
        house.nodes.addable = Addable(types=node_types.read("far: cpu=4 region=eu-west"))
        house.nodes.label("a", {"region": "us"})
        return house

    async def waits() -> None:
        async with growing() as house:
            house.pool.floor = 1
            house.reconciler.wake(house.pool)
            waiting = asyncio.ensure_future(house.pool.first_ready())
            await asyncio.sleep(MACHINE_S - 10)
            assert not waiting.done()
            assert "a machine `far` of the Ray cluster" == house.pool.lacks
            house.nodes.add(FakeNode(0.1, name="b"), labels={"region": "eu-west"})
            await waiting
            assert 1 == len(house.nodes.mirrors["b"].containers)
            assert ("", 0.0) == (house.pool.lacks, house.pool.awaits_since)

    async def is_refused() -> None:
        async with growing() as house:
            house.pool.floor = 1
            house.reconciler.wake(house.pool)
            with pytest.raises(StartError, match="came within 10 minutes") as told:
                await house.pool.first_ready()
            assert MACHINE_S <= elapsed() < MACHINE_S + 30
            assert "ray_node_types" in told.value.hint

    virtually(waits())
    virtually(is_refused())
