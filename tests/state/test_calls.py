"""Spawned calls in a real database: each attempt runs once, and what comes late changes nothing."""

import asyncio
import dataclasses
import os

import pytest

from homeport.contract.calls import endpoint_id
from homeport.contract.errors import NotFound, StorageError, TooMany
from homeport.contract.scope import MAIN, Scope
from homeport.state import call_rows, call_statements
from homeport.state import calls as module
from homeport.state.calls import CallRow, Calls, Outcome

VALUE = Outcome(kind="value", python="3.11", body=b"v")
ERROR = Outcome(kind="error", python="3.11", body=b"e")
CALL = "fc-" + "1" * 40


@pytest.fixture
def calls(database, tmp_path):
    return Calls(database, tmp_path / "calls")


def row(call: str = CALL, place: int = 0, **changes) -> CallRow:
    fields = {"endpoint": "call-1", "app": "shop", "tag": "f", "due_at": 1.0, "created_at": 1.0}
    return CallRow(id=call, place=place, **{**fields, **changes})


async def state(calls: Calls, call: str = CALL) -> str:
    return (await calls.find(call))[0].state


async def test_a_call_waits_runs_and_is_done(calls):
    assert await calls.add([row()], [b"input"])
    assert None is await calls.outcome(CALL, 0)
    ((due, body),) = await calls.due("call-1", 2.0, 10)
    assert b"input" == body == await calls.input(due)
    assert await calls.claim(CALL, 0, 0, "ta-1")
    assert ["ta-1"] == [call.container for call in await calls.running()]
    assert await calls.finish(CALL, 0, 0, VALUE)

    assert VALUE == await calls.outcome(CALL, 0)
    assert "done" == await state(calls)
    assert [] == await calls.endpoints() == await calls.running()


@pytest.mark.parametrize("size", [1, call_rows.INLINE_BYTES + 1], ids=["small", "large"])
@pytest.mark.parametrize("whose", ["main", "another"])
async def test_the_same_id_again_is_the_same_call(calls, size, whose):
    """Visitors of an app may know the ids of its calls, and have a workspace of their own: its code must not run there."""
    assert await calls.add([row()], [b"1" * size])
    assert not await calls.add([row(workspace=whose)], [b"2" * size])
    assert not await calls.add([row(workspace=whose)], [b"2" * (call_rows.INLINE_BYTES + 1)])

    assert b"1" * size == await calls.input(row())
    assert ["main"] == [one.workspace for one in await calls.find(CALL)]


async def test_of_ten_containers_one_gets_an_attempt(calls):
    await calls.add([row()], [b""])
    claims = await asyncio.gather(*(calls.claim(CALL, 0, 0, f"ta-{n}") for n in range(10)))

    assert 1 == sum(claims)


async def test_a_container_may_ask_again_for_the_attempt_that_it_has(calls):
    """As after a kill of the control plane between the commit and the answer."""
    await calls.add([row()], [b""])

    assert await calls.claim(CALL, 0, 0, "ta-1")
    assert await calls.claim(CALL, 0, 0, "ta-1")
    assert not await calls.claim(CALL, 0, 0, "ta-2")
    assert await calls.finish(CALL, 0, 0, VALUE)
    assert not await calls.claim(CALL, 0, 0, "ta-1")


async def test_an_attempt_that_is_over_changes_nothing(calls):
    await calls.add([row()], [b""])
    await calls.claim(CALL, 0, 0, "ta-1")
    assert await calls.again(CALL, 0, 0, 5.0, "ended")

    assert not await calls.finish(CALL, 0, 0, VALUE)
    assert not await calls.claim(CALL, 0, 0, "ta-1")
    assert not await calls.again(CALL, 0, 0, 5.0, "ended")
    (waiting,) = await calls.find(CALL)
    assert ("waiting", 1, 5.0, "") == (
        waiting.state,
        waiting.attempt,
        waiting.due_at,
        waiting.container,
    )
    assert await calls.claim(CALL, 0, 1, "ta-2")
    assert await calls.finish(CALL, 0, 1, ERROR)
    assert "failed" == await state(calls)


async def test_a_claimed_call_cannot_be_postponed(calls):
    await calls.add([row()], [b""])
    (waiting,) = await calls.find(CALL)
    assert await calls.postpone(waiting, 9.0, "nobody is there")
    assert "nobody is there" == (await calls.find(CALL))[0].note
    await calls.claim(CALL, 0, 0, "ta-1")

    assert not await calls.postpone(waiting, 99.0, "late")


async def test_a_cancelled_attempt_stays_cancelled(calls):
    await calls.add([row(), row(place=1), row(place=2)], [b"", b"", b""])
    await calls.claim(CALL, 1, 0, "ta-1")
    await calls.claim(CALL, 2, 0, "ta-2")
    await calls.finish(CALL, 2, 0, VALUE)
    cancelled = await calls.cancel(CALL)

    assert [(0, "waiting"), (1, "running")] == [(call.place, call.state) for call in cancelled]
    assert not await calls.finish(CALL, 1, 0, VALUE)
    assert not await calls.claim(CALL, 0, 0, "ta-3")
    assert ["cancelled", "cancelled", "done"] == [call.state for call in await calls.find(CALL)]
    assert "cancelled" == (await calls.outcome(CALL, 0)).kind
    assert [] == await calls.cancel(CALL)


async def test_large_values_are_files_that_go_with_their_call(calls, tmp_path, monkeypatch):
    big = bytes(call_rows.INLINE_BYTES + 1)
    await calls.add([row()], [big])
    await calls.claim(CALL, 0, 0, "ta-1")
    await calls.finish(CALL, 0, 0, dataclasses.replace(VALUE, body=big))

    assert big == await calls.input(row())
    assert big == (await calls.outcome(CALL, 0)).body
    assert 2 == len([*(tmp_path / "calls").iterdir()])
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + module.KEPT_S + 10)
    await calls.sweep()
    assert [] == [*(tmp_path / "calls").iterdir()]
    with pytest.raises(NotFound, match="there is no call"):
        await calls.outcome(CALL, 0)


async def test_a_late_attempt_does_not_replace_the_file_of_a_later_one(calls):
    early, right = (
        Outcome(kind="value", python="3.11", body=letter * (call_rows.INLINE_BYTES + 1))
        for letter in (b"0", b"1")
    )
    await calls.add([row()], [b""])
    assert await calls.again(CALL, 0, 0, 2.0, "ended")
    assert await calls.finish(CALL, 0, 1, right)

    assert not await calls.finish(CALL, 0, 0, early)
    assert right == await calls.outcome(CALL, 0)


async def test_one_large_outcome_that_comes_twice_at_once_is_saved(calls):
    outcome = Outcome(kind="value", python="3.11", body=b"x" * (call_rows.INLINE_BYTES + 1))
    await calls.add([row()], [b""])
    ends = await asyncio.gather(*(calls.finish(CALL, 0, 0, outcome) for _ in range(8)))

    assert 1 == sum(ends)
    assert outcome == await calls.outcome(CALL, 0)


async def test_a_large_outcome_of_an_earlier_homeport_is_found(calls, tmp_path):
    outcome = Outcome(kind="value", python="3.11", body=b"x" * (call_rows.INLINE_BYTES + 1))
    await calls.add([row()], [b""])
    await calls.finish(CALL, 0, 0, outcome)
    (file,) = (tmp_path / "calls").iterdir()
    file.rename(file.with_name(f"{CALL}-0.out"))

    assert outcome == await calls.outcome(CALL, 0)


async def test_a_call_that_would_wait_too_long_is_due(calls):
    for place, due_at in enumerate((5.0, 9.0, 99.0)):
        await calls.add([row(f"fc-{place}", due_at=due_at)], [b""])
    await calls.hasten(9.0, due_at=1.0)

    assert ["fc-2"] == [call.id for call, _ in await calls.due("call-1", 2.0, 10)]
    assert 5.0 == await calls.next_due("call-1", 2.0)


async def test_due_calls_come_in_order(calls):
    for number in range(5):
        call = f"fc-{number:040x}"
        due = row(call, due_at=10.0 - number, endpoint=f"call-{number % 2}")
        await calls.add([due], [b""])

    assert {"call-0", "call-1"} == set(await calls.endpoints())
    assert [6.0, 8.0, 10.0] == [call.due_at for call, _ in await calls.due("call-0", 10.0, 10)]
    assert [6.0] == [call.due_at for call, _ in await calls.due("call-0", 10.0, 1)]
    assert [7.0] == [call.due_at for call, _ in await calls.due("call-1", 8.9, 10)]
    assert 9.0 == await calls.next_due("call-1", 7.0)
    assert None is await calls.next_due("call-0", 10.0)


async def test_calls_know_what_they_have_made(calls):
    await calls.add([row()], [b""])
    child = "fc-" + "2" * 40
    await calls.add([row(child, parent=CALL, created_at=2.0)], [b""])

    assert [child] == [call.id for call in await calls.children(CALL)]
    assert [child, CALL] == [call.id for call in await calls.latest("shop", "", 10)]
    assert [] == await calls.latest("other", "", 10)
    assert 1 == len(await calls.latest("", "waiting", 1))


async def test_there_is_a_bound(calls, monkeypatch):
    monkeypatch.setattr(call_statements, "MAX_WAITING", 2)
    with pytest.raises(TooMany, match="2 calls are waiting"):
        await calls.add([row(place=n) for n in range(3)], [b""] * 3)
    with pytest.raises(NotFound):
        await calls.find(CALL)
    await calls.add([row(place=n) for n in range(2)], [b""] * 2)
    with pytest.raises(TooMany):
        await calls.of(MAIN).add([row("fc-" + "3" * 40)], [b""])
    await calls.claim(CALL, 1, 0, "ta-1")
    assert await calls.of(MAIN).add([row("fc-" + "3" * 40)], [b""])


async def test_one_of_several_workspaces_cannot_take_the_room_of_all(
    database, tmp_path, monkeypatch
):
    monkeypatch.setattr(call_statements, "MAX_WAITING", 4)
    calls = Calls(database, tmp_path / "calls", room=call_statements.Room(alone=lambda: False))

    def of(workspace: str, number: int) -> CallRow:
        return dataclasses.replace(row(f"fc-{number:040x}"), workspace=workspace)

    for number in range(2):
        assert await calls.add([of("acme", number)], [b""])
    with pytest.raises(TooMany, match="2 calls of this workspace are waiting"):
        await calls.add([of("acme", 3)], [b""])
    assert await calls.add([of("globex", 4)], [b""])
    await calls.claim(of("acme", 0).id, 0, 0, "ta-1")  # it waits no more
    with pytest.raises(TooMany):  # globex has one of the three that are left
        await calls.add([of("acme", n) for n in (5, 6)], [b""] * 2)


async def test_calls_of_an_earlier_homeport_find_their_function(calls):
    old = dataclasses.replace(row(), endpoint=endpoint_id("shop", "f", key="main"))
    other = dataclasses.replace(row("fc-" + "2" * 40), endpoint="call-0")
    await calls.add([old], [b"x"])
    await calls.add([other], [b"x"])
    await calls.readdress("secret")

    endpoints = [(await calls.find(call.id))[0].endpoint for call in (old, other)]
    assert [endpoint_id("shop", "f", key="secret"), "call-0"] == endpoints


async def test_a_call_of_another_environment_is_not_there(calls):
    call = dataclasses.replace(row(), environment="staging")
    await calls.add([call], [b"x"])
    main, staging = calls.of(MAIN), calls.of(Scope(environment="staging"))

    with pytest.raises(NotFound):
        await main.find(call.id)
    with pytest.raises(NotFound):
        await main.outcome(call.id, 0)
    assert not await main.claim(call.id, 0, 0, "ta-1")
    assert [] == await main.cancel(call.id)
    assert [] == await main.latest("", "", 10)
    assert await staging.claim(call.id, 0, 0, "ta-1")
    assert [call.id] == [running.id for running in await calls.running()]


async def test_each_environment_has_its_own_calls_and_one_may_not_end_anothers(calls):
    """The same names of apps are in all of them."""
    scopes = MAIN, Scope(environment="staging"), Scope("ada")
    ids = {scope: f"fc-{number:040x}" for number, scope in enumerate(scopes)}
    for scope, call in ids.items():
        own = {"workspace": scope.workspace, "environment": scope.environment}
        await calls.add([row(call, parent="fc-parent", **own)], [b"x"])
    for scope, call in ids.items():
        seen = calls.of(scope)
        others = [other for other in ids.values() if other != call]

        assert [call] == [each.id for each in await seen.find(call)]
        assert [call] == [each.id for each in await seen.latest("shop", "", 10)]
        assert [call] == [each.id for each in await seen.children("fc-parent")]
        assert b"x" == await seen.input(row(call))
        assert call == (await seen.one(call, 0)).id
        assert await seen.are_open(["call-1"])
        assert [[], []] == [await seen.cancel(other) for other in others]
        assert [None, None] == [await seen.one(other, 0) for other in others]
    assert 3 == len(await calls.latest("shop", call_rows.WAITING, 10))
    (cancelled,) = await calls.of(MAIN).cancel(ids[MAIN])

    assert ids[MAIN] == cancelled.id
    assert not await calls.of(MAIN).are_open(["call-1"])
    assert await calls.of(Scope("ada")).are_open(["call-1"])


async def test_large_values_are_for_the_server_alone_and_a_full_disk_leaves_nothing_of_them(
    calls, tmp_path, monkeypatch
):
    big, before = bytes(call_rows.INLINE_BYTES + 1), os.umask(0)
    try:
        await calls.add([row()], [big])
    finally:
        os.umask(before)
    assert 0o700 == (tmp_path / "calls").stat().st_mode & 0o777

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        await calls.add([row("fc-" + "2" * 40)], [big])
    assert [f"{CALL}-0.in"] == os.listdir(tmp_path / "calls")
