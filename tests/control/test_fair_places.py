"""Nobody can take all places of the machine, whatever they hold."""

import asyncio

from homeport.contract.capacity import Capacity
from homeport.contract.traffic import PoolKey
from tests.control.test_reconciler import House, elapsed, virtually
from tests.fakes import FakeNode

OTHER = PoolKey("other", "f", "rv-1")


def stranger(house: House, **function):
    """A function of another app."""
    pool = house.add(OTHER, **function)
    pool.owner = "deploy:other"
    return pool


async def took_s(visit) -> float:
    began = elapsed()
    async with asyncio.timeout(30):
        await visit
    return elapsed() - began


def test_requests_held_at_one_endpoint_stop_nobodys_cold_start():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=64) as house:
            stranger(house)
            sibling = house.add(PoolKey("app", "sibling", "rv-1"))
            held = house.visits(100, 3600.0)
            await asyncio.sleep(5)
            running = len(house.node.list())
            first = await took_s(house.ingress.visit(OTHER, 0.1))
            second = await took_s(house.ingress.visit(sibling.key, 0.1))
            for visit in held:
                visit.cancel()

            assert 56 == running
            assert max(first, second) < 1.0

    virtually(story())


def test_an_app_of_many_functions_stops_no_other_apps_cold_start():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=64) as house:
            stranger(house)
            functions = [house.add(PoolKey("app", f"f{n}", "rv-1")) for n in range(100)]
            held = [
                asyncio.create_task(house.ingress.visit(pool.key, 3600.0)) for pool in functions
            ]
            await asyncio.sleep(5)
            running = len(house.node.list())
            first = await took_s(house.ingress.visit(OTHER, 0.1))
            for visit in held:
                visit.cancel()

            assert 60 == running
            assert first < 1.0

    virtually(story())


def test_an_old_version_that_holds_everything_does_not_stop_the_new_one():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=64) as house:
            held = house.visits(100, 3600.0)
            await asyncio.sleep(5)
            new = house.add(PoolKey("app", "f", "rv-2"))
            first = await took_s(house.ingress.visit(new.key, 0.1))
            for visit in held:
                visit.cancel()

            assert first < 1.0

    virtually(story())


def test_memory_held_by_one_function_leaves_some_for_a_small_one():
    async def story():
        node = FakeNode(0.1, capacity=Capacity(cores=4, memory_mib=8000))
        async with House(node, memory_mib=(400, None)) as house:
            stranger(house, memory_mib=(500, None))
            held = house.visits(30, 3600.0)
            await asyncio.sleep(5)
            first = await took_s(house.ingress.visit(OTHER, 0.1))
            for visit in held:
                visit.cancel()

            assert first < 1.0

    virtually(story())


def test_a_function_that_is_alone_gets_all_memory():
    async def story():
        node = FakeNode(0.1, capacity=Capacity(cores=4, memory_mib=8000))
        async with House(node, memory_mib=(400, None)) as house:
            await asyncio.gather(*house.visits(30, 5.0))

            assert 20 == len(node.started)

    virtually(story())


def test_a_hog_does_not_take_the_idle_containers_of_those_who_have_few():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=16) as house:
            stranger(house, scaledown_window_s=600.0)
            before = await house.ingress.visit(OTHER, 0.1)
            held = house.visits(100, 3600.0)
            await asyncio.sleep(60)
            after = await house.ingress.visit(OTHER, 0.1)
            for visit in held:
                visit.cancel()

            assert before == after

    virtually(story())
