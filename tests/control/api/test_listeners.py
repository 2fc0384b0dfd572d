"""The sockets of the API end with the server, whatever has become of their files."""

import asyncio
import contextlib
import socket
from contextlib import AsyncExitStack

import httpx
import pytest

from homeport.control.api import listener, listeners
from homeport.control.api.bearer import Bearer
from homeport.settings import Settings
from homeport.state.api_tokens import ApiTokens
from tests import databases
from tests.waiting import PATIENCE_S


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = Settings(home=tmp_path)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    settings.socket_dir.mkdir(parents=True, exist_ok=True)
    return settings


@pytest.fixture
async def guarded(tmp_path):
    """An API whose every route answers `ok`, behind tokens."""
    database = databases.copied(tmp_path)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    yield app, lambda source: Bearer(app, ApiTokens(database), source=source)
    await database.close()


async def status(path) -> int:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
        return (await client.get("http://homeport/")).status_code


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_socket_for_containers_goes_with_the_server_also_if_its_file_is_away(
    settings, guarded, is_there
):
    app, guard = guarded
    async with AsyncExitStack() as opened:
        await listeners.inside(settings, app, lambda _key: None, guard, opened)
        assert 401 == await status(settings.inside_socket)  # a request without a key
        if not is_there:
            settings.inside_socket.unlink()

    assert not settings.inside_socket.exists()


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_socket_for_commands_goes_with_the_server_also_if_its_file_is_away(
    settings, guarded, is_there
):
    app, guard = guarded
    async with AsyncExitStack() as opened:
        await listeners.outside(settings, app, guard, None, opened)
        assert 200 == await status(settings.control_socket)
        if not is_there:
            settings.control_socket.unlink()

    assert not settings.control_socket.exists()


async def test_a_response_that_has_begun_is_sent_whole_at_the_end_and_a_stream_is_cut(
    settings, monkeypatch
):
    monkeypatch.setattr(listener, "CLOSE_S", 0.5)
    go, cut = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        try:
            await (go if scope["path"] == "/short" else asyncio.Event()).wait()
        except asyncio.CancelledError:
            cut.set()
            raise
        await send({"type": "http.response.body", "body": b", ended"})

    async def read(http, path: str, begun: asyncio.Event) -> bytes:
        body = b""
        with contextlib.suppress(httpx.HTTPError):
            async with http.stream("GET", f"http://homeport{path}") as response:
                async for part in response.aiter_bytes():
                    body += part
                    begun.set()
        return body

    path, begun = settings.control_socket, [asyncio.Event(), asyncio.Event()]
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as http:
        async with listener.listening(app, listener.unix_socket(path)):
            short = asyncio.create_task(read(http, "/short", begun[0]))
            stream = asyncio.create_task(read(http, "/stream", begun[1]))
            for event in begun:
                await event.wait()
            asyncio.get_running_loop().call_later(0.05, go.set)

        assert b"begun, ended" == await short
        await asyncio.wait_for(cut.wait(), PATIENCE_S)
        assert b"begun" == await stream


def test_a_connection_of_a_machine_that_disappears_ends_by_itself():
    with (
        listener.tcp_socket("127.0.0.1", 0) as listens,
        contextlib.closing(socket.create_connection(listens.getsockname())),
        contextlib.closing(listens.accept()[0]) as accepted,
    ):
        options = {
            name: accepted.getsockopt(socket.IPPROTO_TCP, name) for name in listener.VANISHED
        }
        is_kept_alive = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    assert (1, listener.VANISHED) == (is_kept_alive, options)
