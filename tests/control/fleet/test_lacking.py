"""What is asked of Ray: a bundle for each container that has no place, and names that stay."""

import asyncio

import pytest

from homeport.contract import node_types
from homeport.contract.capacity import Capacity
from homeport.contract.growth import Bundle, RayMachine
from homeport.contract.manifest import FunctionSpec
from homeport.control.fleet import lacking
from homeport.control.fleet.addable import Addable
from homeport.control.fleet.pool import now
from tests.control.fleet.house import House
from tests.fakes import FakeNode
from tests.waiting import virtually

HERE = Capacity(cores=4, memory_mib=8000, places=100)


def function(**fields):
    return FunctionSpec(name="hello", module="m", qualname="hello", **fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Bundle(cpus=0.04)),
        ({"cpu": (2.0, None), "memory_mib": (512, None)}, Bundle(cpus=2.0, memory_mib=512)),
        ({"gpu": ("H100:2", "L4")}, Bundle(cpus=0.04, gpus=2)),
        ({"gpu": ("L4",)}, Bundle(cpus=0.04, gpus=1)),
    ],
)
def test_a_bundle_has_what_a_container_asks_for_and_at_least_a_place(fields, expected):
    assert expected == lacking.bundle(function(**fields), [HERE])


def test_only_containers_without_a_place_are_asked_for():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=2, min_containers=5) as house:
            await asyncio.sleep(5)
            asked = lacking.bundles(house.pools, house.nodes.capacities(), Addable(), now())
            house.pool.function = FunctionSpec(name="f", module="m", qualname="f")
            house.pool.lacks = ""
            nothing = lacking.bundles(house.pools, house.nodes.capacities(), Addable(), now())

            assert 5 - len(house.node.containers) == len(asked) > 0
            assert [] == nothing

    virtually(story())


def test_ray_is_asked_for_no_machine_that_could_not_run_the_function():
    async def story(types: str, **fields):
        async with House(FakeNode(0.1), max_containers_here=1, min_containers=2, **fields) as house:
            house.nodes.label("here", {"region": "us"})
            await asyncio.sleep(5)
            addable = Addable(types=node_types.read(types))
            return lacking.bundles(house.pools, house.nodes.capacities(), addable, now())

    typed = "t4: gpu=T4 region=us; eu: cpu=4 region=eu-west"

    assert [Bundle(cpus=4.0)] == virtually(story(""))
    assert [] == virtually(story("", region=("us",)))
    assert [] == virtually(story(typed, region=("ap",)))
    assert [Bundle(kind="eu", share=0.25)] * 2 == virtually(story(typed, region=("eu",)))


def test_a_machine_with_containers_counts_as_full():
    addable = Addable(types=node_types.read("large: cpu=32"))
    machines = [
        RayMachine(id="1", name="a", host="a", cpus=32.0, resources=("CPU", "large")),
        RayMachine(id="2", name="b", host="b", cpus=8.0, resources=("CPU",)),
        RayMachine(id="3", name="c", host="c"),
    ]

    assert [Bundle(kind="large", share=1.0), Bundle(cpus=8.0), None] == [
        lacking.full(machine, addable) for machine in machines
    ]
