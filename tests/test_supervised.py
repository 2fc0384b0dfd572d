"""Loops that go on after an error, on a virtual clock."""

import asyncio
import logging

import pytest

from homeport.supervised import Tasks, retried, supervised
from tests.waiting import turns, virtually

NAME = "homeport.supervised"


def clock() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def ended(task: asyncio.Task) -> BaseException | None:
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.exception()


def test_a_loop_that_fails_goes_on_and_waits_twice_as_long_each_time(caplog):
    turns = []

    async def loop():
        turns.append(clock())
        raise OSError("the disk is full")

    async def story():
        task = asyncio.create_task(supervised("watcher", loop))
        await asyncio.sleep(17)
        return await ended(task)

    assert virtually(story()) is None
    assert [0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3, 16.3] == turns
    records = [record for record in caplog.records if record.name == NAME]
    assert records[0].getMessage() == "watcher failed: OSError: the disk is full; again in 0.1 s"
    # The same error again is one line.
    assert [bool(record.exc_info) for record in records] == [True] + [False] * 8


def test_an_error_that_says_everything_is_a_warning_without_a_traceback(caplog):
    errors = iter([OSError("the disk is full"), KeyError("a bug")])

    async def loop():
        raise next(errors, asyncio.CancelledError())

    async def story():
        task = asyncio.create_task(supervised("watcher", loop, expected=OSError))
        await asyncio.sleep(0.2)
        return await ended(task)

    assert virtually(story()) is None
    told, bug = [record for record in caplog.records if record.name == NAME]
    assert "watcher: the disk is full; again in 0.1 s" == told.getMessage()
    assert (logging.WARNING, None) == (told.levelno, told.exc_info)
    assert (logging.ERROR, True) == (bug.levelno, bool(bug.exc_info))


def test_after_a_good_while_the_next_wait_is_short_again():
    turns = []

    async def loop():
        turns.append(clock())
        await asyncio.sleep(60 if len(turns) == 4 else 0)
        raise RuntimeError

    async def story():
        task = asyncio.create_task(supervised("watcher", loop))
        await asyncio.sleep(61.15)
        await ended(task)

    virtually(story())

    assert [0.7, 60.8, 61.0] == turns[3:]


def test_a_loop_that_returns_is_started_again():
    turns = []

    async def loop():
        turns.append(clock())

    async def story():
        task = asyncio.create_task(supervised("listener", loop))
        await asyncio.sleep(0.5)
        await ended(task)

    virtually(story())

    assert [0.0, 0.1, 0.3] == turns


def test_a_cancellation_that_was_meant_for_something_else_does_not_end_the_loop():
    turns = []

    async def loop():
        turns.append(clock())
        stranger = asyncio.get_running_loop().create_future()
        stranger.cancel()
        await stranger

    async def story():
        task = asyncio.create_task(supervised("watcher", loop))
        await asyncio.sleep(0.2)
        alive = not task.done()
        await ended(task)
        return alive, task.cancelled()

    assert (True, True) == virtually(story())
    assert [0.0, 0.1] == turns


@pytest.mark.parametrize("at_s", [0.0, 0.05])
def test_cancelling_ends_it_in_its_work_and_in_its_wait(at_s):
    async def loop():
        await asyncio.sleep(0.01)
        raise RuntimeError

    async def story():
        task = asyncio.create_task(supervised("watcher", loop))
        await asyncio.sleep(at_s)
        await ended(task)
        return task.cancelled()

    assert virtually(story())


def test_work_that_must_succeed_is_tried_until_it_does():
    attempts = []

    async def attempt():
        attempts.append(clock())
        if len(attempts) < 3:
            raise OSError
        return "done"

    assert "done" == virtually(retried("forget ta-1", attempt))
    assert [0.0, 0.1, 0.3] == attempts


async def test_a_task_that_fails_is_logged_under_its_name(caplog):
    async def work():
        raise RuntimeError("no")

    tasks = Tasks()
    task = tasks.start("warm shop", work())
    await asyncio.wait([task])

    assert ["warm shop failed"] == [r.getMessage() for r in caplog.records if r.name == NAME]
    assert logging.ERROR == caplog.records[-1].levelno
    assert 0 == len(tasks)


async def test_closing_ends_what_still_runs_and_waits_for_its_end():
    tidied = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await turns(1)
            tidied.append(True)

    tasks = Tasks()
    tasks.start("one", work())
    await turns(1)
    await tasks.close()

    assert [True] == tidied


async def test_after_closing_nothing_starts():
    """Late events, such as the end of a container, still arrive while the server ends."""
    began = []

    async def work():
        began.append(True)

    tasks = Tasks()
    await tasks.close()
    late = tasks.start("late", work())
    await turns(1)

    assert late.cancelled()
    assert [] == began
    assert 0 == len(tasks)
