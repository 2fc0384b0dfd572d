"""Changes of one owner take turns, go on without their caller, and can be ended with a reason."""

import asyncio
import logging

import pytest

from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.scope import MAIN
from homeport.control.deploys.changes import Changes
from homeport.control.fleet.owner import Owner

SHOP, BLOG = Owner.app(MAIN, "shop"), Owner.app(MAIN, "blog")


async def steps(name: str, done: list[str], go_on: asyncio.Event) -> str:
    done.append(f"{name} begins")
    await go_on.wait()
    done.append(f"{name} ends")
    return name


async def test_changes_of_one_owner_take_turns_and_other_owners_do_not_wait():
    done, go_on = [], asyncio.Event()
    changes = Changes(ended=lambda: None)

    waiting = [
        changes.begin("deploy", owner, steps(name, done, go_on))
        for owner, name in ((SHOP, "first"), (SHOP, "second"), (BLOG, "other"))
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert ["first begins", "other begins"] == done
    assert [waiting[0], waiting[1]] == changes.of(SHOP)
    go_on.set()
    assert ["first", "second", "other"] == [await change.result() for change in waiting]
    assert done.index("first ends") < done.index("second begins")


async def test_a_change_goes_on_without_its_caller_and_is_forgotten_at_its_end():
    done, go_on, ended = [], asyncio.Event(), asyncio.Event()
    changes = Changes(ended=ended.set)
    caller = asyncio.create_task(changes.run("deploy", SHOP, steps("it", done, go_on)))
    while not done:
        await asyncio.sleep(0)

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert changes
    go_on.set()
    await ended.wait()

    assert ["it begins", "it ends"] == done
    assert not changes
    assert [] == changes.of(SHOP)


async def test_a_change_that_is_ended_tells_its_caller_why_and_the_next_one_has_its_turn():
    done, go_on = [], asyncio.Event()
    changes = Changes(ended=lambda: None)
    first = changes.begin("deploy", SHOP, steps("first", done, go_on))
    second = changes.begin("stop", SHOP, steps("second", done, go_on))
    while not done:
        await asyncio.sleep(0)

    first.end(BadRequest("the app was stopped"))
    with pytest.raises(BadRequest, match="the app was stopped"):
        await first.result()
    go_on.set()

    assert "second" == await second.result()
    assert "first ends" not in done


async def test_closing_ends_every_change_also_one_that_has_not_begun():
    done = []
    changes = Changes(ended=lambda: None)
    every = [changes.begin("deploy", SHOP, steps(n, done, asyncio.Event())) for n in ("a", "b")]

    await changes.close(BadRequest("the server is ending"))

    assert not changes
    for change in every:
        with pytest.raises(BadRequest, match="is ending"):
            await change.result()


async def test_a_failure_is_a_line_in_the_log_and_a_bug_has_its_traceback(caplog):
    caplog.set_level(logging.INFO)
    changes = Changes(ended=lambda: None)

    async def fail(error: Exception) -> None:
        raise error

    for error in (NotFound("no such app"), KeyError("a bug")):
        with pytest.raises(type(error)):
            await changes.run("deploy", SHOP, fail(error))

    refusal, bug = [r for r in caplog.records if r.name == "homeport.control.deploys.changes"]
    assert ("deploy of app shop in main/main: no such app", None) == (
        refusal.getMessage(),
        refusal.exc_info,
    )
    assert bug.exc_info is not None
