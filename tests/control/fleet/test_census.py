"""The numbers of nodes for `/metrics`."""

import pytest

from homeport.contract.capacity import Capacity
from homeport.control.fleet import census
from homeport.control.fleet.nodes import Nodes
from tests.fakes import FakeNode
from tests.orders import order
from tests.waiting import until


@pytest.fixture
async def every():
    there = Capacity(cores=4, memory_mib=1000, places=10)
    made = Nodes(
        [FakeNode(0.01, capacity=there), FakeNode(0.01, capacity=there, name="b")],
        on_line=lambda _line: None,
    )
    await made.open()
    yield made
    await made.close()


async def test_each_node_has_what_its_containers_do_not_ask_for(every):
    await every.start("b", order("ta-1", memory_mib=(300, None), cpu=(1.5, None)), {})
    other, own = await census.of(every)

    assert ("here", 0, 10, 4, 1000) == (
        own.name,
        own.containers,
        own.places_free,
        own.cores_free,
        own.memory_free_mib,
    )
    assert ("b", 1, 9, 2.5, 700) == (
        other.name,
        other.containers,
        other.places_free,
        other.cores_free,
        other.memory_free_mib,
    )
    assert other.round_trip_s is not None


async def test_the_state_of_a_node_says_whether_it_gets_containers(every):
    assert ["ready", "ready"] == [numbers.state for numbers in await census.of(every)]
    await every.drain("b", on=True)
    assert ["drained", "ready"] == [numbers.state for numbers in await census.of(every)]
    every.mirrors["b"].give_up()

    assert ["gone", "ready"] == [numbers.state for numbers in await census.of(every)]
    assert [] == every.gone()


async def test_a_node_that_was_given_up_is_told_of_unless_it_was_drained(every):
    assert [] == every.gone()
    every.mirrors["b"].give_up()
    assert ["b"] == every.gone()


async def test_the_machine_of_a_container_is_known_after_its_end(every):
    await every.start("b", order("ta-1"), {})
    await every.start("here", order("ta-2"), {})
    await until(lambda: every.node_of("ta-1"), "a report")
    every.stop("ta-1")
    await until(lambda: "ta-1" not in every.mirrors["b"].containers, "its end")

    assert ("b", "", "") == tuple(every.node_of(name) for name in ("ta-1", "ta-2", "ta-3"))
