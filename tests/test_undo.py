"""A change happens whole or not at all."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.undo import Undo, unbroken
from tests.waiting import turns


class Failed(Exception):
    pass


class World:
    """Values that steps change; each step's inverse puts the old value back."""

    def __init__(self) -> None:
        self.state = dict.fromkeys("abc", 0)

    async def change(self, undo: Undo, name: str, value: int, breaks: str) -> None:
        undo.push(self.put, name, self.state[name])
        if breaks == "before":
            raise Failed
        self.state[name] = value
        await turns(1)
        if breaks == "half-way":
            raise Failed
        if breaks == "cancelled":
            asyncio.current_task().cancel()
            await turns(1)

    async def put(self, name: str, value: int) -> None:
        await turns(1)
        self.state[name] = value


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=6)


@given(steps=STEPS, data=st.data())
def test_after_any_failing_step_all_is_as_before(steps, data):
    fails_at = data.draw(st.integers(0, len(steps) - 1))
    breaks = data.draw(st.sampled_from(["before", "half-way", "cancelled"]))

    async def story():
        world = World()
        with pytest.raises((Failed, asyncio.CancelledError)):
            async with Undo("a change") as undo:
                for number, (name, value) in enumerate(steps):
                    await world.change(undo, name, value, breaks if number == fails_at else "")
        return world.state

    assert asyncio.run(story()) == World().state


@given(steps=STEPS, data=st.data())
def test_steps_that_were_kept_stay_and_later_steps_are_undone(steps, data):
    kept = data.draw(st.integers(0, len(steps)))

    async def story():
        world = World()
        expected = dict(world.state)
        with pytest.raises(Failed):
            async with Undo("a change") as undo:
                for number, (name, value) in enumerate(steps):
                    if number == kept:
                        undo.keep()
                        expected = dict(world.state)
                    await world.change(undo, name, value, "")
                if kept == len(steps):
                    undo.keep()
                    expected = dict(world.state)
                raise Failed
        return world.state, expected

    state, expected = asyncio.run(story())
    assert expected == state


async def test_a_change_that_succeeds_stays():
    world = World()
    async with Undo("a change") as undo:
        await world.change(undo, "a", 7, "")

    assert {"a": 7, "b": 0, "c": 0} == world.state


async def test_an_inverse_step_that_fails_is_logged_and_the_others_still_run(caplog):
    def broken():
        raise OSError("the disk is full")

    world = World()
    with pytest.raises(Failed):
        async with Undo("deploy shop") as undo:
            await world.change(undo, "a", 1, "")
            undo.push(broken)
            await world.change(undo, "b", 1, "")
            raise Failed

    assert World().state == world.state
    (record,) = caplog.records
    assert record.getMessage().startswith("deploy shop: cannot undo by `")
    assert isinstance(record.exc_info[1], OSError)


async def test_a_cancellation_waits_until_all_is_undone():
    halfway, go = asyncio.Event(), asyncio.Event()
    undone = []

    async def slowly():
        halfway.set()
        await go.wait()
        undone.append("slow")

    async def change():
        async with Undo("a change") as undo:
            undo.push(undone.append, "first")
            undo.push(slowly)
            raise Failed

    task = asyncio.create_task(change())
    await halfway.wait()
    task.cancel()
    await turns(1)
    task.cancel()
    go.set()
    await asyncio.wait([task])

    assert ["slow", "first"] == undone
    assert task.cancelled()


async def test_unbroken_work_ends_before_the_cancellation_is_raised():
    go, done = asyncio.Event(), []

    async def work():
        await go.wait()
        done.append(True)

    task = asyncio.create_task(unbroken(work()))
    await turns(1)
    task.cancel()
    await turns(1)
    assert not task.done()
    go.set()
    await asyncio.wait([task])

    assert (True, [True]) == (task.cancelled(), done)


async def test_unbroken_work_returns_its_value():
    async def work():
        return 3

    assert 3 == await unbroken(work())
