"""The stream of a session: the app serves as long as somebody reads it."""

import contextlib

import pytest

from homeport.contract.api import events
from homeport.contract.api.sessions import Serve
from homeport.contract.errors import StorageError
from homeport.contract.scope import MAIN
from homeport.control.api.sessions import Sessions
from homeport.state.calls import CallRow, Outcome
from homeport.state.logs import Logs
from homeport.supervised import Tasks
from tests.control.api.served import spawned_of, view_of
from tests.control.plane import Plane, function, manifest
from tests.waiting import until, virtual

APP = manifest(function("f"))
CALL = "fc-" + "1" * 40


@contextlib.asynccontextmanager
async def sessions_of(home):
    """Return a plane with its sessions."""
    async with Plane(home) as plane:
        logs, tasks = Logs(home / "logs", 1024 * 1024), Tasks()
        plane.spawned = spawned_of(plane, home)
        yield (
            plane,
            Sessions(view_of(plane), plane.deployer, logs, tasks, plane.spawned, plane.pools),
        )
        await tasks.close()
        logs.close()


async def serving(sessions, *, detach=False):
    """Begin a session; return its stream, and the event that says that it serves."""
    stream = await sessions.serve(MAIN, Serve(manifest=APP, detach=detach))
    while not isinstance(event := await anext(stream), (events.Serving, events.Error)):
        pass
    assert isinstance(event, events.Serving)
    return stream, event


@virtual
async def test_a_session_ends_with_the_reader_of_its_stream(tmp_path):
    async with sessions_of(tmp_path) as (plane, sessions):
        stream, event = await serving(sessions)
        assert ["f"] == [endpoint.tag for endpoint in event.endpoints]
        assert plane.ingress.endpoints
        await stream.aclose()

        assert [] == plane.parts.live.all()
        assert {} == plane.ingress.endpoints


@virtual
async def test_a_session_ends_also_if_its_first_end_fails(tmp_path, monkeypatch):
    """Nothing else stops it later."""
    async with sessions_of(tmp_path) as (plane, sessions):
        stop, failures = plane.deployer.stop, []

        async def failing(owner):
            if len(failures) < 2:
                failures.append(owner)
                raise StorageError("the disk is full")
            return await stop(owner)

        monkeypatch.setattr(plane.deployer, "stop", failing)
        stream, _event = await serving(sessions)
        await stream.aclose()

        assert 2 == len(failures)
        assert [] == plane.parts.live.all()


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@virtual
async def test_a_detached_session_lives_until_its_spawned_calls_have_ended(tmp_path, detach):
    async with sessions_of(tmp_path) as (plane, sessions):
        stream, _event = await serving(sessions, detach=detach)
        (app,) = plane.parts.live.all()
        call = CallRow(id=CALL, endpoint=next(iter(app.endpoints)), app="shop", tag="f")
        await plane.spawned.rows.add([call], [b""])
        await stream.aclose()

        assert ([app] if detach else []) == plane.parts.live.all()
        await plane.spawned.rows.finish(CALL, 0, 0, Outcome(kind="value", python="", body=b""))
        await until(lambda: not plane.parts.live.all(), "its end")
