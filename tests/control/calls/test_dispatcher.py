"""Spawned calls on their way: sent until claimed, bounded, tried again, ended with their container."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from aiohttp import web

from homeport.contract.calls import ATTEMPT, CALL, CALL_ID, endpoint_id
from homeport.contract.errors import BadRequest, NotFound, StorageError
from homeport.contract.scope import MAIN
from homeport.control.calls import dispatcher as module
from homeport.control.calls import lines
from homeport.control.calls.dispatcher import Dispatcher
from homeport.control.calls.spawned import Spawned
from homeport.state import schema, urls
from homeport.state.calls import CallRow, Calls, Outcome
from homeport.state.database import Database
from tests.control.plane import KEY
from tests.waiting import PATIENCE_S, until
from tests.web import end

F = endpoint_id("shop", "f", key=KEY)
WAIT_S = 10 * PATIENCE_S  # so that a wait which nothing wakes is a failure
VALUE = Outcome(kind="value", python="3.11", body=b"v")


def call_id(number: int) -> str:
    return f"fc-{number:040x}"


class Ingress:
    """What listens on the socket `calls`: it notes each request, and answers as the test says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.status = 200
        self.asked: list[tuple[str, str]] = []  # call, attempt
        self.inside = self.most = self.cut = 0
        self.release = asyncio.Event()
        self.release.set()

    async def answer(self, request: web.Request) -> web.Response:
        assert F == request.headers[CALL]
        self.asked.append((request.headers[CALL_ID], request.headers[ATTEMPT]))
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        finally:
            self.inside -= 1
        return web.Response(status=self.status, text="homeport: so it is")

    @contextlib.asynccontextmanager
    async def listening(self):
        app = web.Application()
        app.router.add_post("/", self.answer)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, str(self._path)).start()
        yield self
        self.release.set()
        await end(runner)


class Plane:
    """A dispatcher with all that it needs."""

    def __init__(self, rows: Calls, ingress: Ingress, socket: Path) -> None:
        self.rows, self.ingress = rows, ingress
        self.retries: dict[str, str] = {F: ""}
        self.containers = {"ta-1"}
        self.spawned = Spawned(rows, self.retries.get, key=lambda _scope: KEY)
        self.dispatcher = Dispatcher(self.spawned, socket, lambda: self.containers)

    async def spawn(self, number: int, inputs: int = 1) -> str:
        row = CallRow(id=call_id(number), endpoint="", app="shop", tag="f", python="3.11")
        await self.spawned.spawn(row, "", [b"input"] * inputs)
        return row.id

    async def state(self, call: str) -> str:
        return (await self.rows.find(call))[0].state

    async def is_in(self, call: str, state: str) -> None:
        async def there():
            return await self.state(call) == state

        await until(there, f"{call} to be {state}")


@pytest.fixture
async def plane(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EACH_S", 0.02)
    monkeypatch.setattr(module, "READ_EACH_S", 0.02)
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.02)
    database = Database(urls.of("", tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    socket = tmp_path / "calls.sock"
    async with Ingress(socket).listening() as ingress:
        plane = Plane(Calls(database, tmp_path / "calls"), ingress, socket)
        plane.dispatcher.open()
        yield plane
        await plane.dispatcher.close()
    await database.close()


async def test_a_call_is_sent_and_its_outcome_wakes_who_waits(plane):
    call = await plane.spawn(1)
    waiting = asyncio.create_task(plane.spawned.outcome(MAIN, call, 0, WAIT_S))
    await until(lambda: plane.ingress.asked, "the request")
    (row,) = await plane.rows.find(call)
    await plane.rows.claim(call, 0, 0, "ta-1")
    await plane.spawned.end(row, VALUE)

    assert (call, "0") == plane.ingress.asked[0]
    assert VALUE == await asyncio.wait_for(waiting, PATIENCE_S)
    assert "done" == await plane.state(call)


async def test_only_so_many_are_on_their_way(plane, monkeypatch):
    monkeypatch.setattr(lines, "MOST", 3)
    plane.ingress.release.clear()
    await plane.spawn(1, inputs=10)
    await until(lambda: plane.ingress.inside == 3, "three requests")
    plane.ingress.release.set()
    await until(lambda: len(plane.ingress.asked) >= 10, "the others")

    assert 3 == plane.ingress.most


async def test_a_call_that_nobody_takes_is_sent_again_as_the_same_attempt(plane):
    plane.ingress.status = 503
    call = await plane.spawn(1)
    await until(lambda: len(plane.ingress.asked) >= 3, "three tries")
    (row,) = await plane.rows.find(call)

    assert {(call, "0")} == set(plane.ingress.asked)
    assert ("waiting", "503: so it is") == (row.state, row.note)


async def test_a_function_that_is_gone_is_an_outcome(plane):
    plane.ingress.status = 404
    call = await plane.spawn(1)
    await plane.is_in(call, "failed")
    outcome = await plane.rows.outcome(call, 0)

    assert ("refused", b"NotFound: so it is") == (outcome.kind, outcome.body)


async def test_a_container_that_ended_ends_its_attempt(plane):
    call = await plane.spawn(1)
    await plane.rows.claim(call, 0, 0, "ta-gone")
    await plane.is_in(call, "failed")
    outcome = await plane.rows.outcome(call, 0)

    assert "ended" == outcome.kind
    assert b"ta-gone" in outcome.body


async def test_the_retries_of_a_function_decide_whether_there_is_another_attempt(plane):
    plane.retries[F] = "1.10.1000.10"  # one retry, after 10 ms
    call = await plane.spawn(1)
    await plane.rows.claim(call, 0, 0, "ta-gone")
    await until(lambda: (call, "1") in plane.ingress.asked, "the second attempt")
    await plane.rows.claim(call, 0, 1, "ta-gone")
    await plane.is_in(call, "failed")

    assert {"0", "1"} >= {attempt for _, attempt in plane.ingress.asked}


async def test_a_container_that_runs_keeps_its_attempt(plane):
    call = await plane.spawn(1)
    other = await plane.spawn(2)
    await plane.rows.claim(call, 0, 0, "ta-1")
    await plane.rows.claim(other, 0, 0, "ta-gone")
    await plane.is_in(other, "failed")  # the look has been made

    assert "running" == await plane.state(call)


async def test_a_cancelled_call_is_cut(plane):
    plane.ingress.release.clear()
    call = await plane.spawn(1)
    await until(lambda: plane.ingress.inside == 1, "the request")
    waiting = asyncio.create_task(plane.spawned.outcome(MAIN, call, 0, WAIT_S))
    await asyncio.sleep(0)
    await plane.spawned.cancel(MAIN, call)
    await until(lambda: plane.ingress.cut == 1, "the request's end")

    assert "cancelled" == (await asyncio.wait_for(waiting, PATIENCE_S)).kind


async def test_a_call_that_cannot_be_is_refused(plane):
    for wrong in ("x", "fc-../../etc", "fc-" + "A" * 40, ""):
        with pytest.raises(BadRequest, match="the id of a call"):
            row = CallRow(id=wrong, endpoint="", app="shop", tag="f")
            await plane.spawned.spawn(row, "", [b""])
    with pytest.raises(NotFound, match="no function `g`"):
        row = CallRow(id=call_id(1), endpoint="", app="shop", tag="g")
        await plane.spawned.spawn(row, "", [b""])
    with pytest.raises(BadRequest, match="at least one input"):
        await plane.spawn(2, inputs=0)
    with pytest.raises(NotFound, match="there is no call"):
        await plane.spawned.cancel(MAIN, call_id(3))


async def test_a_later_dispatcher_goes_on(plane, tmp_path):
    """As after a kill of the control plane: what waits is sent, and what a container claimed stays its own."""
    plane.ingress.release.clear()
    waits, runs = await plane.spawn(1), await plane.spawn(2)
    await until(lambda: plane.ingress.inside == 2, "both requests")
    await plane.rows.claim(runs, 0, 0, "ta-1")
    await plane.dispatcher.close()
    plane.ingress.release.set()
    await until(lambda: plane.ingress.inside == 0, "their end")
    plane.ingress.asked.clear()
    later = Plane(plane.rows, plane.ingress, tmp_path / "calls.sock")
    later.dispatcher.open()
    await until(lambda: plane.ingress.asked, "the waiting call")
    await later.dispatcher.close()

    assert {(waits, "0")} == set(plane.ingress.asked)
    assert "running" == await plane.state(runs)


async def test_a_call_that_a_container_claimed_is_not_sent_again(plane, monkeypatch):
    """The claim is known from memory, so the row is not changed once more when the request ends."""
    postponed = []
    monkeypatch.setattr(plane.rows, "postpone", lambda *arguments: postponed.append(arguments))
    plane.ingress.release.clear()
    call = await plane.spawn(1)
    await until(lambda: plane.ingress.inside == 1, "the request")
    assert await plane.spawned.claim(MAIN, call, 0, 0, "ta-1")
    assert not await plane.spawned.claim(MAIN, call, 0, 0, "ta-2")
    await plane.spawned.ended(MAIN, call, 0, 0, VALUE)
    plane.ingress.release.set()
    await until(lambda: plane.ingress.inside == 0 and not plane.dispatcher._flights, "its end")

    assert [(call, "0")] == plane.ingress.asked
    assert [] == postponed
    assert "done" == await plane.state(call)


async def test_a_retry_without_a_delay_follows_the_request_of_the_attempt_before(plane):
    """The container answers after it has delivered the error, when the next attempt waits already."""
    plane.retries[F] = "1.0.1000.0"  # one retry, at once
    plane.ingress.release.clear()
    call = await plane.spawn(1)
    await until(lambda: plane.ingress.inside == 1, "the request")
    await plane.spawned.claim(MAIN, call, 0, 0, "ta-1")
    error = Outcome(kind="error", python="3.11", body=b"e")
    await plane.spawned.ended(MAIN, call, 0, 0, error)
    await until(lambda: plane.dispatcher._lines[F]._passed, "a look at the table")
    plane.ingress.release.set()
    await until(lambda: (call, "1") in plane.ingress.asked, "the second attempt")


async def test_a_caller_that_asks_again_makes_no_second_call(plane):
    """As after a kill of the control plane between the commit and the answer."""
    plane.ingress.release.clear()
    call = await plane.spawn(1)
    assert call == await plane.spawn(1)
    await until(lambda: plane.ingress.asked, "the request")
    other = await plane.spawn(2)
    await until(lambda: len(plane.ingress.asked) == 2, "the request of another call")

    assert [(call, "0"), (other, "0")] == plane.ingress.asked


async def test_an_outcome_of_an_unknown_call_is_refused_and_a_late_one_ignored(plane):
    with pytest.raises(NotFound, match="there is no call"):
        await plane.spawned.ended(MAIN, call_id(9), 0, 0, VALUE)
    call = await plane.spawn(1)
    await plane.spawned.claim(MAIN, call, 0, 0, "ta-1")
    await plane.spawned.ended(MAIN, call, 0, 0, VALUE)
    late = Outcome(kind="error", python="3.11", body=b"late")
    await plane.spawned.ended(MAIN, call, 0, 0, late)

    assert VALUE == await plane.rows.outcome(call, 0)


async def test_a_call_waits_while_its_row_cannot_be_changed(plane, monkeypatch):
    """After an error of the database the table is looked at again, and no call is forgotten."""
    real, failed = plane.rows.postpone, []

    async def broken(*arguments):
        if not failed:
            failed.append(arguments)
            raise StorageError("the disk is full")
        return await real(*arguments)

    monkeypatch.setattr(plane.rows, "postpone", broken)
    plane.ingress.status = 503
    call = await plane.spawn(1)
    await until(lambda: len(plane.ingress.asked) >= 3, "more tries")

    assert {(call, "0")} == set(plane.ingress.asked)
    assert 1 == len(failed)


async def test_the_pauses_of_a_call_that_is_over_are_forgotten(plane):
    plane.ingress.status = 503
    for number in (1, 2):
        await plane.spawn(number)
    await until(lambda: len(plane.dispatcher._troubles) == 2, "a try of each")
    await plane.spawned.cancel(MAIN, call_id(1))
    plane.ingress.status = 404
    await plane.is_in(call_id(2), "failed")
    await plane.is_in(call_id(1), "cancelled")

    assert {} == plane.dispatcher._troubles


@pytest.fixture
async def watchful(plane, tmp_path, monkeypatch):
    """A plane that often looks for what waits in the database."""
    monkeypatch.setattr(module, "LOOK_ALL_S", 0.02)
    await plane.dispatcher.close()
    later = Plane(plane.rows, plane.ingress, tmp_path / "calls.sock")
    later.dispatcher.open()
    yield later
    await later.dispatcher.close()


async def saved(plane, number: int, **times: float) -> str:
    """Save a call that an earlier server has left."""
    row = CallRow(id=call_id(number), endpoint=F, app="shop", tag="f", **times)
    await plane.rows.add([row], [b"input"])
    return row.id


async def test_a_call_whose_next_try_is_far_away_is_sent_because_the_clock_was_set_back(watchful):
    far_away = time.time() + 10 * module.LONGEST_WAIT_S
    for number in (1, 2):
        call = await saved(watchful, number, due_at=far_away)
        await until(lambda call=call: (call, "0") in watchful.ingress.asked, "a request")


async def test_a_call_is_given_up_when_it_is_old_and_was_tried_for_long(watchful, monkeypatch):
    """A server that did not run for a day, or whose clock was ahead, has not tried yet."""
    watchful.ingress.status = 503
    now = time.time()
    call = await saved(watchful, 1, due_at=now, created_at=now - 2 * module.GIVE_UP_S)
    await until(lambda: len(watchful.ingress.asked) >= 3, "some tries")

    assert "waiting" == await watchful.state(call)
    monkeypatch.setattr(module, "TRIED_S", 0.0)
    await watchful.is_in(call, "failed")
    outcome = await watchful.rows.outcome(call, 0)
    assert outcome.kind == "refused"
    assert b"503: so it is" == outcome.body
