"""Each method of the client, with a real server on a real socket."""

import asyncio
import contextlib
import hashlib
import json

import pytest
from websockets.asyncio.server import unix_serve

import homeport.settings
from homeport.client import Client, OtherVersion, ServerBug
from homeport.client.replies import CHUNK_BYTES
from homeport.contract.api.answers import Fault
from homeport.contract.api.api_tokens import NewApiToken
from homeport.contract.api.apps import AppState
from homeport.contract.api.coldstarts import ColdStartQuery
from homeport.contract.api.deploys import Deploy, Rollback
from homeport.contract.api.logs import LogQuery
from homeport.contract.api.secrets import NewSecret, SecretKeys
from homeport.contract.api.tokens import NewProxyToken
from homeport.contract.container import LogLine
from homeport.contract.errors import BadRequest, NotFound, ScriptError, ServerUnreachable
from homeport.contract.permissions import Permission
from homeport.contract.programs import Order
from homeport.contract.scope import MAIN
from homeport.control.fleet.owner import Owner
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import until


@contextlib.asynccontextmanager
async def connected(home):
    """A client of a plane's API; the client, the plane and the server."""
    plane = Plane(home, FakeNode(0.01))
    async with plane, on_a_socket(plane, home) as server, Client(plane.settings) as client:
        yield client, plane, server


@contextlib.asynccontextmanager
async def answering(home, *answers: bytes):
    """A client of a server that answers each request with the next of these answers."""
    told = homeport.settings.load({"HOMEPORT_HOME": str(home)})
    told.control_socket.parent.mkdir(parents=True, exist_ok=True)
    rest = iter(answers)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + next(rest))
        writer.close()

    server = await asyncio.start_unix_server(answer, told.control_socket)
    async with server, Client(told) as client:
        yield client


async def test_every_method_returns_what_its_type_says(tmp_path):
    async with connected(tmp_path) as (client, plane, server):
        wanted = Deploy(manifest=manifest(function("f")))
        events = [event async for event in client.deploys.deploy("shop", wanted)]
        assert ["progress", "done"] == [event.event for event in events]
        rolled = Rollback(version=1)
        *_, back = [event async for event in client.deploys.rollback("shop", rolled)]
        assert 2 == back.deployed.version

        status = await client.server.status()
        assert (status.apps, status.apps[0]) == (
            await client.apps.every(),
            await client.apps.one("shop"),
        )
        assert [2, 1] == [version.version for version in await client.apps.history("shop")]
        (container, *_) = await client.containers.every()
        assert AppState.DEPLOYED is status.apps[0].state
        assert () == await client.images.every() == await client.images.prune()
        assert () == await client.apps.cold_starts("shop", ColdStartQuery(function="f"))

        keys = await client.secrets.create(NewSecret(name="db", values={"KEY": "v"}))
        assert SecretKeys(name="db", keys=("KEY",)) == keys
        assert ["db"] == [secret.name for secret in await client.secrets.every()]
        await client.secrets.delete("db")
        assert () == await client.secrets.every()
        token = await client.tokens.create(NewProxyToken(name="ci"))
        assert [token.token_id] == [each.token_id for each in await client.tokens.every()]
        await client.tokens.delete(token.token_id)
        assert () == await client.tokens.every()
        made = await client.api_tokens.create(NewApiToken(user="ada", scopes=(Permission.READ,)))
        assert (made.token,) == await client.api_tokens.every()
        await client.api_tokens.delete(made.token.id)
        with pytest.raises(NotFound):
            await client.api_tokens.delete("ak/../x?y")
        with pytest.raises(NotFound):
            await client.api_tokens.delete_user("ada")
        assert tuple(Permission) == (await client.api_tokens.identity()).permissions

        await client.containers.stop(container.id)
        assert isinstance(await client.apps.stop("shop"), int)
        await client.server.keep()
        await client.server.shutdown()
        assert ["keep", "shutdown"] == server.asked
        await plane.check_whole()


async def test_a_session_is_told_of_what_happens_and_ends_with_the_block(tmp_path):
    async with connected(tmp_path) as (client, plane, _server):
        async with client.sessions.serve(manifest(function("f"), app="draft")) as events:
            first, second = await anext(events), await anext(events)
            assert ("session", "draft", "serving") == (first.event, first.app, second.event)
            assert await client.sessions.reload(first.id, manifest(function("g"), app="draft"))
            with pytest.raises(NotFound, match="this session has ended"):
                await client.sessions.reload("other", manifest(function("g"), app="draft"))
            assert [Owner.session(MAIN, first.id)] == [app.owner for app in plane.parts.live.all()]

        await until(lambda: not plane.parts.live.all(), "the session's end")


async def test_files_are_uploaded_once(tmp_path):
    async with connected(tmp_path) as (client, plane, _server):
        file = tmp_path / "script.py"
        file.write_text("x = 1\n")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        gone: list[tuple[int, int]] = []
        await client.blobs.upload({digest: str(file)}, lambda *told: gone.append(told))
        assert [(6, 6)] == gone
        (large := tmp_path / "large").write_bytes(b"x" * (CHUNK_BYTES + 1))
        digest_of_large = hashlib.sha256(large.read_bytes()).hexdigest()
        await client.blobs.upload({digest_of_large: str(large)}, lambda *told: gone.append(told))
        assert {CHUNK_BYTES + 1} == {total for _, total in gone[1:]}
        assert gone[1][0] < gone[-1][0] == CHUNK_BYTES + 1
        assert [] == plane.blobs.missing([digest])

        file.unlink()
        await client.blobs.upload(
            {digest: str(file)}
        )  # the server has it, so the client does not read it
        with pytest.raises(ScriptError, match="cannot be read any more"):
            await client.blobs.upload({"a" * 64: str(file)})


async def test_a_failure_comes_back_as_what_was_raised(tmp_path):
    async with connected(tmp_path) as (client, _plane, _server):
        with pytest.raises(NotFound, match="No App with name 'none' found"):
            await client.apps.one("none")
        with pytest.raises(NotFound, match="No App with name 'none' found"):
            [line async for line in client.logs.read("none", LogQuery())]
        with pytest.raises(BadRequest, match="strategy"):
            wanted = Deploy(manifest=manifest(function("f")), strategy="odd")
            [event async for event in client.deploys.deploy("shop", wanted)]


async def test_a_line_of_a_log_may_hold_whatever_separates_lines_elsewhere(tmp_path):
    async with connected(tmp_path) as (client, _plane, server):
        wanted = Deploy(manifest=manifest(function("f")))
        [event async for event in client.deploys.deploy("shop", wanted)]
        text = "a\u2028b\u2029c\x85d\x1ce\x0bf"
        line = LogLine(at=1.0, app="shop", function="f", container="ta-1", text=text)
        server.logs.write(line)

        query = LogQuery(function="f", container="ta-1")
        assert [line] == [line async for line in client.logs.read("shop", query)]


async def test_an_event_that_only_a_newer_server_knows_is_left_out(tmp_path):
    lines = b'{"event": "weather", "sky": "blue"}\n{"event": "progress", "text": "t", "new": 1}\n'
    async with answering(tmp_path, lines) as client:
        wanted = Deploy(manifest=manifest(function("f")))

        assert ["t"] == [event.text async for event in client.deploys.deploy("shop", wanted)]


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"apps": [{"name": 1}]}', b'{"apps": 7}'])
async def test_a_server_of_another_version_is_named(tmp_path, answer):
    async with answering(tmp_path, answer) as client:
        with pytest.raises(OtherVersion, match="is another version of homeport"):
            await client.apps.every()


@pytest.mark.parametrize("line", [b"5", b"[]", b'"x"', b'{"event": "error"}'])
async def test_a_line_of_another_version_is_named(tmp_path, line):
    async with answering(tmp_path, line) as client:
        with pytest.raises(OtherVersion):
            [line async for line in client.logs.read("shop", LogQuery())]


async def test_json_too_deep_to_be_read_is_no_answer(tmp_path):
    async with answering(tmp_path, *[b"[" * 100_000] * 2) as client:
        with pytest.raises(ServerBug, match=r"the server answered 200: \[\["):
            await client.server.status()
        with pytest.raises(ServerBug, match=r"the server answered 200: \[\["):
            [line async for line in client.logs.read("shop", LogQuery())]


@pytest.mark.parametrize("answer", [b"", b"\0\0", b"\0\0\0\x09x"])
async def test_packed_values_of_another_version_are_named(tmp_path, answer):
    async with answering(tmp_path, answer) as client:
        with pytest.raises(OtherVersion):
            await client.dicts.parts("GET", "d", "items")


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("x", OtherVersion),
        ("{}", OtherVersion),
        ("[]", OtherVersion),
        (b"", OtherVersion),
        ('{"error": 5}', OtherVersion),
        (None, ServerUnreachable),  # it closes the connection
    ],
)
@pytest.mark.parametrize("start", [[], ['{"started": "ta-1"}']], ids=["starts", "runs"])
async def test_a_message_of_a_program_that_cannot_be_read_is_an_error(
    tmp_path, start, message, error
):
    async def say(socket):
        for text in [*start, *([] if message is None else [message])]:
            await socket.send(text)

    settings = homeport.settings.load({"HOMEPORT_HOME": str(tmp_path)})
    settings.control_socket.parent.mkdir(parents=True, exist_ok=True)
    async with unix_serve(say, settings.control_socket), Client(settings) as client:
        with pytest.raises(error):
            async with client.programs.run(Order(argv=("ls",)), container="ta-1") as running:
                [output async for output in running.outputs()]


async def test_a_bug_of_the_server_is_no_failure_of_the_users(tmp_path):
    fault = Fault.of(ValueError("a secret"))
    line = json.dumps({"event": "error", "error": {"kind": fault.kind, "message": fault.message}})
    async with answering(tmp_path, line.encode(), b"no JSON") as client:
        with pytest.raises(ServerBug, match="the server failed: ValueError"):
            [line async for line in client.logs.read("shop", LogQuery())]
        with pytest.raises(ServerBug, match="the server answered 200: no JSON"):
            await client.server.status()


async def test_no_server_is_said_to_be_none(tmp_path):
    async with Client(homeport.settings.load({"HOMEPORT_HOME": str(tmp_path)})) as client:
        with pytest.raises(ServerUnreachable, match="no server answers"):
            await client.server.status()


@pytest.mark.parametrize(
    ("server", "goes"),
    [
        ("https://apps.example.com", True),
        ("http://127.0.0.1:4670", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:4670", True),
        ("http://localhost:4670/behind", True),
        ("http://apps.example.com", False),
        ("http://10.0.0.2:4670", False),
        ("http://[::ffff:10.0.0.2]", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://2130706433", False),
    ],
)
def test_a_token_goes_to_another_machine_by_https_alone(tmp_path, server, goes):
    told = homeport.settings.load(
        {"HOMEPORT_HOME": str(tmp_path), "HOMEPORT_SERVER": server, "HOMEPORT_TOKEN": "t"}
    )
    if goes:
        Client(told)
        return
    with pytest.raises(BadRequest, match="by plain HTTP, because others could read it"):
        Client(told)


async def test_a_proxy_of_the_environment_gets_no_token_for_loopback(tmp_path, monkeypatch):
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", "")
    told = homeport.settings.load(
        {
            "HOMEPORT_HOME": str(tmp_path),
            "HOMEPORT_SERVER": "http://127.0.0.1:1",
            "HOMEPORT_TOKEN": "t",
        }
    )
    async with proxy, Client(told) as client:
        with pytest.raises(ServerUnreachable):
            await client.server.status()

    assert [] == asked
