"""No app can take all the machine's room from the others."""

import asyncio

from homeport.contract.capacity import Capacity
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.owner import Owner
from tests.control.fleet.house import House, elapsed
from tests.fakes import FakeNode
from tests.waiting import virtually

OTHER = PoolKey("other", "f", "rv-1")


def stranger(house: House, **function):
    """A function of another app."""
    pool = house.add(OTHER, **function)
    pool.owner = Owner.app(MAIN, "other")
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
            running = len(house.node.containers)
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
            await asyncio.sleep(1)
            running = len(house.node.containers)
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


def test_a_function_that_is_always_busy_gives_the_others_their_share():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=16) as house:
            stranger(house)
            served = {house.pool.key: 0, OTHER: 0}

            async def visitor(key):
                while True:
                    await house.ingress.visit(key, 1.0)
                    served[key] += 1

            hogs = [asyncio.create_task(visitor(house.pool.key)) for _ in range(60)]
            await asyncio.sleep(5)
            alone = len(house.pool.members)
            others = [asyncio.create_task(visitor(OTHER)) for _ in range(30)]
            await asyncio.sleep(30)
            counts = [len(house.pool.members), len(house.pools.get(OTHER).members)]
            before = dict(served)
            await asyncio.sleep(10)
            for visit in (*hogs, *others):
                visit.cancel()

            assert 14 == alone
            assert [7, 7] == counts
            assert min(served[key] - before[key] for key in served) >= 60

    virtually(story())


def test_a_function_that_wants_little_gets_it_and_the_rest_stays_where_it_was():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=16) as house:
            stranger(house)

            async def visitor(key):
                while True:
                    await house.ingress.visit(key, 1.0)

            hogs = [asyncio.create_task(visitor(house.pool.key)) for _ in range(60)]
            await asyncio.sleep(5)
            others = [asyncio.create_task(visitor(OTHER)) for _ in range(3)]
            await asyncio.sleep(30)
            counts = [len(house.pool.members), len(house.pools.get(OTHER).members)]
            for visit in (*hogs, *others):
                visit.cancel()

            assert 3 == counts[1]
            assert counts[0] >= 11

    virtually(story())


def test_a_function_at_its_maximum_holds_up_nobody():
    async def story():
        async with House(FakeNode(0.1), max_containers_here=16) as house:
            stranger(house, max_containers=2)

            async def visitor(key):
                while True:
                    await house.ingress.visit(key, 1.0)

            others = [asyncio.create_task(house.ingress.visit(OTHER, 3600.0)) for _ in range(30)]
            await asyncio.sleep(5)
            hogs = [asyncio.create_task(visitor(house.pool.key)) for _ in range(60)]
            await asyncio.sleep(30)
            counts = [len(house.pool.members), len(house.pools.get(OTHER).members)]
            for visit in (*hogs, *others):
                visit.cancel()

            assert [12, 2] == counts

    virtually(story())


def test_a_container_that_makes_room_is_drained_in_the_ingress_first():
    async def story():
        node = FakeNode(0.1, capacity=Capacity(cores=4, memory_mib=1000))
        async with House(node, memory_mib=(800, None)) as house:
            stranger(house, memory_mib=(800, None))
            (idle,) = await asyncio.gather(*house.visits(1, 0.1))
            first = await took_s(house.ingress.visit(OTHER, 0.1))

            assert ("drain", idle) in house.ingress.calls
            assert first < 1.0

    virtually(story())
