"""Which pools a pass of the control loop looks at."""

import asyncio
import dataclasses

import pytest

from homeport.contract.traffic import PoolKey
from homeport.control.fleet.agenda import WHOLE_S
from homeport.control.fleet.calm import CALM_S, PASS_S
from homeport.control.fleet.pool import Pool
from tests.control.fleet.house import KEY, House, elapsed
from tests.waiting import until, virtually

MANY = 200


def loads(house: House) -> list[list[PoolKey]]:
    """Return which pools' loads are read, for each pass from now on."""
    passes, read = [], house.ingress.load

    async def load(pools):
        passes.append(list(pools))
        return await read(pools)

    house.ingress.load = load
    return passes


def decided(house: House) -> list[str]:
    """Return the functions whose pools are decided about, from now on."""
    names, decide = [], house.reconciler._decide

    async def look(pool: Pool) -> None:
        names.append(pool.key.function)
        await decide(pool)

    house.reconciler._decide = look
    return names


def add_many(house: House, **function) -> list[Pool]:
    return [house.add(PoolKey("app", f"g{n}", "rv-1"), **function) for n in range(MANY)]


async def all_quiet(house: House) -> None:
    """Wait until the ingress tells of the next request to every pool with a container, and a whole pass has been made."""
    agenda = house.reconciler._agenda
    await until(lambda: {p.key for p in house.pools if p.members} <= agenda._watched, "quiet pools")
    await until(lambda: not agenda._noted, "no pool on the agenda")


@pytest.mark.parametrize("others_have_containers", [False, True])
def test_a_busy_pool_among_many_is_the_only_one_that_is_looked_at(others_have_containers):
    async def story():
        least = int(others_have_containers)
        async with House(max_containers_here=2 * MANY, scaledown_window_s=60.0) as house:
            add_many(house, min_containers=least)
            await until(lambda: MANY * least == len(house.node.containers), "all containers")
            await asyncio.gather(*house.visits(1, 0.01))
            await asyncio.sleep(CALM_S)
            await all_quiet(house)
            whole_at = house.reconciler._agenda._whole_at
            await until(lambda: whole_at < house.reconciler._agenda._whole_at, "a whole pass")
            passes, names = loads(house), decided(house)
            began = elapsed()

            await asyncio.gather(*house.visits(1, 3.0))

            assert elapsed() - began < WHOLE_S - PASS_S  # so no whole pass was among them
            assert len(passes) > 30
            assert {(KEY,)} == {tuple(pools) for pools in passes}
            assert {"f"} == set(names)

    virtually(story())


def test_no_pool_is_looked_at_before_its_time_while_nobody_asks():
    async def story():
        async with House(scaledown_window_s=12.0) as house:
            await asyncio.gather(*house.visits(1, 0.01))
            asked_until = elapsed()
            await asyncio.sleep(CALM_S)
            await all_quiet(house)
            passes = loads(house)

            await until(lambda: not house.node.containers, "no container")

            assert 12.0 <= elapsed() - asked_until < 12.0 + 4 * PASS_S
            assert len(passes) < 12  # a whole one every 5 s, and those of the end

    virtually(story())


def test_a_request_whose_line_is_lost_is_seen_by_the_next_whole_pass():
    async def story():
        async with House(min_containers=1, max_inputs=1, max_containers=2) as house:
            await until(lambda: house.pool.ready, "a container")
            await asyncio.sleep(2 * CALM_S)
            await all_quiet(house)
            house.ingress.rouse = lambda _pool: None
            began = elapsed()
            visits = house.visits(2, 30.0)

            await until(lambda: 2 == len(house.node.containers), "a second container")

            assert elapsed() - began <= WHOLE_S + 2 * PASS_S
            for visit in visits:
                visit.cancel()

    virtually(story())


def test_a_request_to_one_set_of_class_parameters_wakes_the_function_s_pools():
    async def story():
        async with House(min_containers=0) as house:
            one = house.pool
            other = house.add(dataclasses.replace(KEY, parameters="a=1"))
            for pool in (one, other):
                pool.floor = 1
                house.reconciler.wake(pool)
                await until(lambda pool=pool: pool.ready, "a container")
                pool.floor = 0
            await asyncio.sleep(2 * CALM_S)
            await all_quiet(house)

            house.reconciler.rouse(KEY)

            assert {one.key, other.key} == set(house.reconciler._agenda._noted)

    virtually(story())


def test_a_pool_whose_start_waits_for_a_place_starts_when_one_is_free():
    async def story():
        async with House(max_containers_here=1, scaledown_window_s=60.0) as house:
            other = house.add(PoolKey("app", "g", "rv-1"))
            (first,) = house.visits(1, 20.0)
            await until(lambda: house.pool.ready, "a container")
            second = asyncio.create_task(house.ingress.visit(other.key, 0.01))
            await asyncio.sleep(2 * WHOLE_S)
            assert [] == list(other.members)

            await first
            ended = elapsed()
            await second

            assert elapsed() - ended < 1.0

    virtually(story())


def test_a_pool_of_options_that_nobody_uses_is_removed_at_its_time():
    async def story():
        async with House() as house:
            pool = house.add(PoolKey("app", "v", "rv-1"), scaledown_window_s=7.5)
            pool.variant, pool.used_at = True, elapsed()

            await until(lambda: house.pools.get(pool.key) is None, "its removal")

            assert 7.5 <= elapsed() - pool.used_at < 7.5 + 4 * PASS_S

    virtually(story())
