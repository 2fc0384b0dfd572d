"""When the control loop looks at a pool that nobody asks."""

import asyncio
import math

import pytest

from homeport.contract.errors import IngressError
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet import calm
from homeport.control.fleet.agenda import WHOLE_S
from homeport.control.fleet.member import Member, Stage
from tests.control.fleet.house import KEY, House, elapsed, faulty
from tests.waiting import until, virtually


def passes(house: House) -> list[float]:
    """Return the times at which the load was read, from now on."""
    times, read = [], house.ingress.load

    async def load(pools):
        times.append(elapsed())
        return await read(pools)

    house.ingress.load = load
    return times


async def settled(house: House) -> None:
    await until(
        lambda: house.pool.members and not house.reconciler._agenda._noted,
        "a loop that waits for a request",
    )


def test_a_pool_is_calm_once_its_containers_are_those_that_it_shall_have():
    async def story():
        async with House(min_containers=1) as house:
            pool = house.pool
            pool.members["a"] = Member(id="a", stage=Stage.READY)
            pool.used_at = -100.0
            now = elapsed()
            assert math.inf == calm.until(pool, now)

            for change in (
                {"parked": {asyncio.get_running_loop().create_future(): 0.0}},
                {"load": Load(running=1)},
                {"load": Load(queued=1)},
                {"retired": True},
                {"demoted": True},
                {"floor": 2},
                {"used_at": now},
            ):
                before = {name: getattr(pool, name) for name in change}
                for name, value in change.items():
                    setattr(pool, name, value)
                assert calm.until(pool, now) <= now, change
                for name, value in before.items():
                    setattr(pool, name, value)
            for stage in (Stage.STARTING, Stage.ATTACHING, Stage.DRAINING, Stage.STOPPING):
                pool.members["b"] = Member(id="b", stage=stage)
                assert calm.until(pool, now) <= now, stage
            del pool.members["b"]
            pool.members["a"].held = 1
            assert calm.until(pool, now) <= now
            pool.members["a"].held = 0
            assert math.inf == calm.until(pool, now)
            pool.members.clear()
            pool.unsettled = True
            assert calm.until(pool, now) <= now

    virtually(story())


def test_an_idle_container_is_looked_at_seldom_and_ends_when_its_window_is_over():
    async def story():
        async with House(scaledown_window_s=60.0) as house:
            (visit,) = house.visits(1, 0.1)
            await visit
            await settled(house)
            began, times = elapsed(), passes(house)

            await until(lambda: not house.pool.members, "no container")

            assert 58.0 < elapsed() - began < 60.5
            assert len(times) < 60.0 / WHOLE_S + 20

    virtually(story())


@pytest.mark.parametrize(("is_told", "most_s"), [(True, 0.5), (False, WHOLE_S + 0.1)])
def test_requests_to_an_idle_container_are_scaled_for_at_once_or_one_pass_later(is_told, most_s):
    """The line about the first request may be lost."""

    async def story():
        async with House(min_containers=1, max_inputs=1) as house:
            await until(lambda: house.pool.ready, "a container")
            await settled(house)
            if not is_told:
                house.ingress.rouse = lambda _pool: None
            began = elapsed()

            visits = house.visits(3, 30.0)
            await until(lambda: 3 == len(house.pool.members), "three containers")

            assert elapsed() - began < most_s
            await asyncio.gather(*visits)

    virtually(story())


def test_without_the_line_the_load_is_read_all_the_time():
    async def story():
        async with House(min_containers=1) as house:
            failed = faulty(house, "doze")
            await until(lambda: failed, "a refusal")
            times = passes(house)
            await asyncio.sleep(1.0)

            assert len(times) >= 15

    virtually(story())


@pytest.mark.parametrize("chosen", [False, True])
def test_only_a_pool_of_parameters_is_removed_later(chosen):
    async def story():
        async with House(scaledown_window_s=7.0) as house:
            key = PoolKey(KEY.app, "g", KEY.revision, parameters="a=1" if chosen else "")
            pool = house.add(key)
            pool.used_at = 3.0
            expected = 3.0 + pool.function.scaledown_window_s if chosen else math.inf

            assert expected == calm.until(pool, 4.0)

    virtually(story())


def test_the_ingress_error_is_logged(caplog):
    async def story():
        async with House(min_containers=1) as house:

            async def refuse(_pools):
                raise IngressError("HAProxy refused `set var`")

            house.ingress.doze = refuse
            await until(lambda: "HAProxy refused" in caplog.text, "a line in the log")

    virtually(story())
