"""The transport to a server with a URL: its connections end with the client, and its failures have words."""

import asyncio
import contextlib

import pytest

import homeport.settings
from homeport.client import Client
from homeport.contract.errors import BadRequest, ServerUnreachable
from tests.waiting import until

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"apps":[]}'


class Listener:
    """A server that answers each request of a connection, and notes when the connection ends."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.ended = 0

    async def __call__(self, reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.answer)
        self.ended += 1
        writer.close()


@contextlib.asynccontextmanager
async def listening(home, answer=EMPTY):
    """Yield the listener, and a client that is configured for its URL."""
    listener = Listener(answer)
    server = await asyncio.start_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environ = {"HOMEPORT_HOME": str(home), "HOMEPORT_SERVER": f"http://127.0.0.1:{port}"}
    settings = homeport.settings.load({**environ, "HOMEPORT_TOKEN": "ak-1.as-2"})
    async with server:
        yield listener, Client(settings)


async def test_a_connection_serves_several_requests_and_ends_with_the_client(tmp_path):
    async with listening(tmp_path) as (listener, client):
        async with client:
            for _ in range(2):
                assert () == await client.apps.every()
            assert 0 == listener.ended

        await until(lambda: listener.ended, "the end of the connection")
        assert 2 == len(listener.heads)
        assert all("authorization: bearer ak-1.as-2" in head.lower() for head in listener.heads)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"SSH-2.0\r\n"]
)
async def test_a_reply_that_breaks_off_is_no_answer_of_the_server(tmp_path, answer):
    class Broken(Listener):
        async def __call__(self, reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            writer.close()

    server = await asyncio.start_server(Broken(answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environ = {"HOMEPORT_HOME": str(tmp_path), "HOMEPORT_SERVER": f"http://127.0.0.1:{port}"}
    settings = homeport.settings.load({**environ, "HOMEPORT_TOKEN": "ak-1.as-2"})
    async with server, Client(settings) as client:
        with pytest.raises(ServerUnreachable):
            await client.apps.every()


def test_a_ca_that_cannot_be_read_is_named(tmp_path):
    environ = {"HOMEPORT_HOME": str(tmp_path), "HOMEPORT_SERVER": "https://apps.example.com"}
    settings = homeport.settings.load(
        {**environ, "HOMEPORT_TOKEN": "ak-1.as-2", "HOMEPORT_SERVER_CA": str(tmp_path / "gone.pem")}
    )

    with pytest.raises(BadRequest, match=r"gone\.pem cannot be read") as refusal:
        Client(settings)
    assert "HOMEPORT_SERVER_CA" in refusal.value.hint


async def test_a_url_where_nobody_listens_is_named(tmp_path):
    async with listening(tmp_path) as (_, client):
        pass

    async with client:
        with pytest.raises(ServerUnreachable, match="no server answers at http"):
            await client.apps.every()
