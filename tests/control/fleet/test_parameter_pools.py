"""Pools of class parameters that visitors choose: bounded, and forgotten when nobody uses them."""

import asyncio
import dataclasses

import pytest

from homeport.contract.errors import Failure, TooMany
from homeport.contract.manifest import FunctionSpec, Parameter
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from tests.control.fleet.house import KEY, House
from tests.fakes import FakeNode
from tests.waiting import virtually

USER = Parameter(name="user", type="str", required=False, default="a")
NEEDED = Parameter(name="user", type="str", required=True)


def of(user: str) -> PoolKey:
    return dataclasses.replace(KEY, parameters=f"user={user}")


def house(most: int = 40, parameter: Parameter = USER, **rest) -> House:
    made = House(FakeNode(0.05), parameters=(parameter,), scaledown_window_s=2.0, **rest)
    made.pools._most_values = most
    return made


def test_150_visitors_leave_nothing_behind_and_never_have_more_than_they_may():
    async def story():
        async with house(most=10) as plane:
            most = 0
            for number in range(150):
                await plane.ingress.visit(of(f"u{number}"), 0.01)
                most = max(most, len(plane.ingress.backends))
            await asyncio.sleep(10)

            assert most <= 20
            assert {KEY} == {pool.key for pool in plane.pools}
            assert set() == plane.ingress.backends
            assert {of(f"u{number}") for number in range(150)} == set(plane.node.forgotten)
            assert [] == plane.node.containers

    virtually(story())


def test_more_values_at_once_than_there_may_be_are_refused():
    async def story():
        async with house(most=3) as plane:
            visits = [asyncio.create_task(plane.ingress.visit(of(f"u{n}"), 5.0)) for n in range(5)]
            done = await asyncio.gather(*visits, return_exceptions=True)
            later = await plane.ingress.visit(of("u4"), 0.1)

            assert [False] * 3 + [True] * 2 == [isinstance(result, TooMany) for result in done]
            assert later

    virtually(story())


def test_a_value_that_is_used_stays_and_keeps_its_container():
    async def story():
        async with house(most=3) as plane:
            seen = set()
            for number in range(40):
                seen.add(await plane.ingress.visit(of("faithful"), 0.01))
                await plane.ingress.visit(of(f"u{number}"), 0.01)
                await asyncio.sleep(0.2)

            assert 1 == len(seen)

    virtually(story())


def test_a_value_that_comes_back_while_it_is_being_forgotten_is_answered():
    async def story():
        async with house(most=1) as plane:
            answered = []
            for number in range(30):
                answered.append(await plane.ingress.visit(of(f"u{number % 2}"), 0.01))
                await asyncio.sleep(0.05)  # a pass has seen that the value is idle
            await asyncio.sleep(10)

            assert 30 == len(answered)
            assert {KEY} == {pool.key for pool in plane.pools}
            assert [] == plane.node.containers

    virtually(story())


def test_a_value_that_fails_to_start_is_forgotten_after_its_back_off():
    async def story():
        plane = house()
        plane.node._fails = lambda order: order.parameters["user"] == "bad"
        async with plane:
            for _ in range(6):
                with pytest.raises(Failure):
                    await plane.ingress.visit(of("bad"))
                await asyncio.sleep(0.3)
            failures = plane.pools.get(of("bad")).failures
            await asyncio.sleep(40)

            assert failures > 2
            assert plane.pools.get(of("bad")) is None

    virtually(story())


def test_a_minimum_of_containers_is_for_the_default_values_alone():
    async def story():
        async with house(min_containers=1) as plane:
            await plane.ingress.visit(of("b"), 0.01)
            await asyncio.sleep(10)

            assert [{"user": "a"}] == [c.order.parameters for c in plane.node.containers] or [
                {}
            ] == [c.order.parameters for c in plane.node.containers]

    virtually(story())


def test_a_class_that_needs_a_value_has_no_container_without_one():
    async def story():
        async with house(parameter=NEEDED, min_containers=1) as plane:
            await asyncio.sleep(5)

            assert [] == plane.node.started

    virtually(story())


async def test_values_of_one_function_do_not_count_for_another():
    pools = Pools(most_values=1)
    for name in ("f", "g"):
        spec = FunctionSpec(name=name, module="m", qualname=name, parameters=(USER,))
        pools.add(
            Pool(
                key=PoolKey("app", name, "rv-1"),
                function=spec,
                source="",
                owner=Owner.app(MAIN, "app"),
            )
        )
    for name in ("f", "g"):
        parked = pools.called_for(PoolKey("app", name, "rv-1", "user=x")).parked
        parked[asyncio.get_running_loop().create_future()] = 0.0
    with pytest.raises(TooMany):
        pools.called_for(PoolKey("app", "f", "rv-1", "user=y"))

    assert 4 == len(list(pools))
