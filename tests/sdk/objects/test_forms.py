"""The forms of a call that goes on without its caller: what the server is asked to keep."""

import asyncio

import pytest

from homeport.sdk import context
from homeport.sdk.objects.function import Named
from homeport.sdk.objects.target import Target
from homeport.wire import looped
from tests.test_wire import Server

KEPT = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
async def server(tmp_path, monkeypatch):
    server = Server(tmp_path / "s", [KEPT])
    monkeypatch.setattr(context, "_reach", context.Reach(socket=server.path, key="k"))
    yield server
    for connections in looped._idle.pop(asyncio.get_running_loop(), {}).values():
        for connection in connections:
            connection.close()
    await asyncio.to_thread(server.close)


@pytest.mark.parametrize("blocks", [True, False], ids=["blocks", "aio"])
@pytest.mark.parametrize("name", ["spawn_map", "experimental_spawn_map"])
async def test_a_spawned_map_is_one_call_with_an_input_for_each_item(server, name, blocks):
    form = getattr(Named(Target(app="app", tag="work", is_named=True, key="k")), name)
    if blocks:
        call = await asyncio.to_thread(form, [1, 2], kwargs={"c": 3})
    else:
        call = await form.aio([1, 2], kwargs={"c": 3})

    (request,) = server.requests
    assert b"function=work" in request
    assert (name == "experimental_spawn_map") == (call is not None)
    assert call is None or (2 == call.num_inputs() and call.object_id.encode() in request)
