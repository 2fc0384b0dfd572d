"""Schedules in a real database: one time makes one call, together with the next time."""

import dataclasses

import pytest

from homeport.contract.scope import MAIN
from homeport.state.calls import CallRow, Calls
from homeport.state.schedules import ScheduleRow, Schedules, call_id

ROW = ScheduleRow(
    app="shop", function="f", revision="rv-1", schedule="{}", anchored_at=0.5, next_at=10.125
)


@pytest.fixture
def calls(database, tmp_path):
    return Calls(database, tmp_path / "calls")


@pytest.fixture
def schedules(database, calls):
    return Schedules(database, calls)


def call(due_at: float) -> CallRow:
    name = call_id("shop", "f", due_at, "k")
    return CallRow(id=name, endpoint="call-1", app="shop", tag="f", due_at=due_at)


async def test_an_app_has_the_schedules_that_were_saved_last(schedules):
    other = dataclasses.replace(ROW, app="other")
    await schedules.replace(MAIN, "shop", [ROW, dataclasses.replace(ROW, function="g")])
    await schedules.replace(MAIN, "other", [other])
    await schedules.replace(MAIN, "shop", [ROW])

    assert [other, ROW] == sorted(await schedules.all(), key=lambda row: row.app)
    await schedules.replace(MAIN, "shop", [])
    assert [other] == await schedules.all()


async def test_a_run_is_a_call_and_moves_the_schedule_on(schedules, calls):
    await schedules.replace(MAIN, "shop", [ROW])
    saved, is_new = await schedules.run(ROW, 20.0, call(10.125), b"input")

    assert is_new
    assert (20.0, call(10.125).id) == (saved.next_at, saved.last_call)
    assert [saved] == await schedules.all()
    (row,) = await calls.find(saved.last_call)
    assert ("waiting", b"input") == (row.state, await calls.input(row))


async def test_a_schedule_that_has_changed_meanwhile_runs_nothing(schedules, calls):
    await schedules.replace(MAIN, "shop", [dataclasses.replace(ROW, revision="rv-2")])

    assert (None, False) == await schedules.run(ROW, 20.0, call(10.125), b"")
    assert None is await schedules.move(ROW, 20.0)
    assert [] == await calls.latest("", "", 10)


async def test_a_due_time_makes_one_call_however_often_it_comes(schedules, calls):
    await schedules.replace(MAIN, "shop", [ROW])
    saved, _ = await schedules.run(ROW, 20.0, call(10.125), b"")
    await calls.claim(saved.last_call, 0, 0, "ta-1")
    back = await schedules.move(saved, 10.125)
    again, is_new = await schedules.run(back, 20.0, call(10.125), b"")

    assert (20.0, False) == (again.next_at, is_new)
    assert 1 == len(await calls.latest("", "", 10))


async def test_no_run_is_added_while_the_one_before_waits(schedules, calls):
    await schedules.replace(MAIN, "shop", [ROW])
    first, _ = await schedules.run(ROW, 20.0, call(10.125), b"")
    second, is_new = await schedules.run(first, 30.0, call(20.0), b"")

    assert (False, 30.0, first.last_call) == (is_new, second.next_at, second.last_call)
    await calls.claim(first.last_call, 0, 0, "ta-1")
    _, is_new = await schedules.run(second, 40.0, call(30.0), b"")
    assert is_new


def test_nobody_without_the_key_of_the_environment_knows_the_id_of_a_run():
    ids = {call_id("shop", "f", 10.125, key) for key in ("", "a", "b")}

    assert 3 == len(ids)
