"""Containers that leave: what their requests, and those that wait for their room, see of it."""

import asyncio

import pytest

from homeport.contract.capacity import Accelerator, Capacity
from homeport.contract.container import State
from homeport.contract.traffic import PoolKey
from tests.control.fleet.house import House, elapsed, faulty
from tests.control.fleet.test_nodes import two
from tests.fakes import FakeNode
from tests.waiting import until, virtual, virtually

CARD = Accelerator(id="GPU-0", name="NVIDIA L4", memory_mib=23034)


def test_a_container_that_drains_for_long_holds_up_nobody_who_waits_for_room():
    async def story():
        node = FakeNode(capacity=Capacity(cores=4, memory_mib=8000, accelerators=(CARD,)))
        other, old = PoolKey("app", "other", "rv-1"), PoolKey("app", "old", "rv-1")
        async with House(node, gpu=("L4",), scaledown_window_s=600.0) as house:
            house.add(other, gpu=("any",))
            draining = house.add(old)
            inside = asyncio.create_task(house.ingress.visit(old, 100.0))
            await asyncio.gather(*house.visits(1))
            draining.retired, draining.drain_s = True, 600.0
            await asyncio.sleep(1)
            began = elapsed()
            await house.ingress.visit(other, 1.0)
            took_s = elapsed() - began
            await inside

        assert took_s < 2.0

    virtually(story())


def test_a_container_that_the_user_ends_has_no_successor_until_somebody_comes():
    async def story():
        async with House(scaledown_window_s=60.0) as house:
            await asyncio.gather(*house.visits(2, 1.0))
            first, second = [order.id for order in house.node.started]
            house.node.hold(first, 1)
            await asyncio.sleep(0.2)
            house.reconciler.end(first)
            await asyncio.sleep(5)
            after_one = [container.id for container in house.node.containers]
            house.reconciler.end(second)
            await asyncio.sleep(5)
            assert [] == house.node.containers
            (third,) = await asyncio.gather(*house.visits(1, 1.0))

            assert [second] == after_one
            assert [first, second, third] == [order.id for order in house.node.started]
            assert ("drain", first) in house.ingress.calls
            assert {first, second} == {line.container for line in house.said}

    virtually(story())


def test_a_container_that_ends_while_the_user_ends_it_needs_no_other_for_what_is_inside():
    async def story():
        node = FakeNode()
        node.stop = lambda _container, *, grace_s=None: None  # it takes its time
        async with House(node) as house:
            (long,) = house.visits(1, 30.0)
            await asyncio.sleep(1)
            (only,) = [order.id for order in house.node.started]
            house.reconciler.end(only)
            await asyncio.sleep(10)
            alone = len(house.node.started)
            (other,) = await asyncio.gather(*house.visits(1, 1.0))

            assert 1 == alone
            assert only != other
            assert only == await long

    virtually(story())


@pytest.mark.parametrize("restricted", [False, True])
def test_a_container_without_the_key_of_its_environment_ends_gently(restricted):
    async def story():
        node = FakeNode(capacity=Capacity(cores=4, memory_mib=4096, has_mounts=True))
        function = {"restrict_modal_access": restricted, "scaledown_window_s": 1000.0}
        async with House(node, **function) as before:
            await asyncio.gather(*before.visits(1, 0.1))
        (old,) = [order.id for order in node.started]
        house = House(node, **function)
        house.reconciler._key = lambda _scope: "key"
        async with house:
            await house.reconciler.adopt()
            await asyncio.sleep(10)
            answers = await asyncio.gather(*house.visits(1, 0.1))

        ended = any("earlier version" in line.text for line in house.said)
        assert restricted is not ended
        assert restricted is (answers == [old])
        assert ("" if restricted else "key") == node.started[-1].key

    virtually(story())


def test_a_container_is_forgotten_by_the_ingress_even_if_it_fails_at_first():
    async def story():
        async with House(min_containers=1) as house:
            await asyncio.sleep(1)
            failed = faulty(house, "lose", times=3)
            killed = house.node.containers[0].id
            house.node.kill(killed)
            await asyncio.sleep(3)

            assert 3 == len(failed)
            assert ("detach", killed) in house.ingress.calls

    virtually(story())


@virtual
async def test_requests_in_the_containers_of_a_drained_node_end_before_these_are_asked_to():
    a, b = two()
    async with House(a, b, min_containers=2, max_inputs=1) as house:
        await until(lambda: len(house.pool.idle()) == 2, "two containers")
        inside = house.visits(2, 100.0)
        await asyncio.sleep(1)
        (old,) = [container.id for container in a.containers]
        await house.nodes.drain("a", on=True)
        await asyncio.sleep(50)
        assert 2 == len(b.containers)
        answered = await asyncio.gather(*house.visits(1, 1.0))
        assert [(old, State.READY)] == [(each.id, each.state) for each in a.containers]
        assert old not in answered
        await asyncio.gather(*inside)
        await until(lambda: not a.containers, "its end")

    assert {None} == {task.exception() for task in inside}


@virtual
async def test_a_node_that_was_drained_before_the_server_started_gets_rid_of_its_containers():
    a, b = two()
    async with House(a, b, min_containers=2) as house:
        await until(lambda: len(house.pool.idle()) == 2, "two containers")
        house.nodes.mirrors["a"].drained = True  # as from the database
        house.nodes.mirrors["a"].refresh()
        await until(lambda: not a.containers and len(house.pool.idle()) == 2, "two others")

        assert 2 == len(b.containers)
