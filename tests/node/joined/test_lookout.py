"""A machine that is gone is found soon, and no other one is thought to be."""

import asyncio
import math

from homeport.contract.errors import IngressError
from homeport.node.joined import lookout
from homeport.node.joined.lookout import LOST_S, MISSES, Lookout
from tests.waiting import until


class Way:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.is_alive = True
        self.asked = self.parted = self.ended_calls = self.fails = 0

    async def answers(self) -> bool:
        self.asked += 1
        return self.is_alive

    async def part(self) -> None:
        if self.fails:
            self.fails -= 1
            raise IngressError("HAProxy does not answer")
        self.parted += 1

    async def part_callers(self) -> None:
        self.ended_calls += 1


async def test_nobody_looks_while_the_control_plane_speaks():
    way = Way()
    lookout = Lookout(lambda: 1.4, way)
    for _ in range(10):
        await lookout.look()

    assert (0, 0) == (way.asked, way.parted)


async def test_connections_to_a_machine_that_is_gone_end_once_and_those_to_one_that_lives_stay():
    way = Way()
    lookout = Lookout(lambda: math.inf, way)
    for _ in range(5):
        await lookout.look()
    way.is_alive = False
    for _ in range(MISSES - 1):
        await lookout.look()
    way.is_alive = True
    await lookout.look()
    assert 0 == way.parted

    way.is_alive = False
    for _ in range(3 * MISSES):
        await lookout.look()
    assert 1 == way.parted

    way.is_alive = True
    await lookout.look()
    way.is_alive = False
    for _ in range(MISSES):
        await lookout.look()
    assert 2 == way.parted


async def test_a_lookout_that_could_not_part_tries_again():
    way = Way()
    way.is_alive, way.fails = False, 2
    lookout = Lookout(lambda: math.inf, way)
    failed = 0
    for _ in range(MISSES + 5):
        try:
            await lookout.look()
        except IngressError:
            failed += 1

    assert (2, 1) == (failed, way.parted)


async def test_calls_wait_longer_than_visitors_and_end_once():
    way, time = Way(), [0.0]
    way.is_alive = False
    lookout = Lookout(lambda: math.inf, way, clock=lambda: time[0])
    for second in (0, 1, 2, LOST_S - 0.1):
        time[0] = second
        await lookout.look()
    assert (1, 0) == (way.parted, way.ended_calls)

    for second in (LOST_S, LOST_S + 1):
        time[0] = second
        await lookout.look()
    assert (1, 1) == (way.parted, way.ended_calls)

    way.is_alive = True
    await lookout.look()
    way.is_alive = False
    for second in (100, 100 + LOST_S - 0.1):
        time[0] = second
        await lookout.look()
    assert 1 == way.ended_calls


async def test_a_running_lookout_finds_a_machine_that_is_gone_and_then_one_that_is_back(
    monkeypatch,
):
    monkeypatch.setattr(lookout, "LOOK_S", 0.001)
    way = Way()
    way.is_alive = False
    running = asyncio.create_task(Lookout(lambda: math.inf, way).run())
    await until(lambda: way.parted == 1, "the connections to end")
    way.is_alive = True
    asked_before = way.asked
    await until(lambda: way.asked > asked_before, "another look")
    way.is_alive = False
    await until(lambda: way.parted == 2, "the connections to end again")
    running.cancel()

    assert 0 == way.ended_calls
