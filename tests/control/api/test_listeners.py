"""The sockets of the API end with the server, whatever has become of their files."""

from contextlib import AsyncExitStack

import httpx
import pytest

from homeport.control.api import listeners
from homeport.control.api.bearer import Bearer
from homeport.settings import Settings
from homeport.state.api_tokens import ApiTokens
from tests import databases


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
