"""A container with a network of its own reaches URLs by a relay of its runner."""

import asyncio
import contextlib
import socket

import pytest

from homeport.contract.manifest import WebKind, WebMethod
from homeport.runner import ways
from tests.orders import launch
from tests.ports import free_port


@pytest.fixture(autouse=True)
def _process_without_target(monkeypatch):
    """`begin` gives the whole process its target."""
    monkeypatch.setattr(ways, "_target", "")


@pytest.fixture
def free() -> int:
    return free_port()


@pytest.fixture
async def ingress(tmp_path):
    """Answers each line with the same line, and ends when the other end does."""

    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_unix_server(answer, str(tmp_path / "urls.sock"))
    yield str(tmp_path / "urls.sock")
    server.close()
    await server.wait_closed()


@pytest.fixture
async def relay(ingress, free):
    ways.begin(
        launch(ingress=ingress, urls={"f": f"http://f.localhost:{free}", "g": f"https://g:{free}"})
    )
    await ways.serve()
    yield free
    while ways._servers:
        server = ways._servers.pop()
        server.close()
        await server.wait_closed()


async def test_bytes_go_both_ways_and_an_end_is_passed_on(relay):
    reader, writer = await asyncio.open_connection("127.0.0.1", relay)
    sent = b"x" * 60_000 + b"\n"
    writer.write(sent)

    async with asyncio.timeout(60):
        assert sent == await reader.readexactly(len(sent))
        writer.write_eof()
        assert b"" == await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_a_connection_closes_if_no_ingress_listens(relay, tmp_path):
    (tmp_path / "urls.sock").unlink()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay)

    async with asyncio.timeout(60):
        assert b"" == await reader.read()
    writer.close()


async def test_the_servers_own_port_stays_free_for_it(free, capfd):
    web = (WebMethod(tag="f", attribute="f", kind=WebKind.WEB_SERVER, port=free),)
    ways.begin(launch(ingress="/none", urls={"f": f"http://f.localhost:{free}"}, web=web))

    with socket.create_server(("127.0.0.1", free)):
        assert "do not answer inside" in capfd.readouterr().err
