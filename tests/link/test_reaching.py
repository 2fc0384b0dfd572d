"""Whether a port can be reached, and what is in the way."""

import asyncio
import socket

from homeport.link import reaching


async def test_a_port_that_takes_connections_is_reached_and_one_that_is_closed_says_so():
    async def take(_reader, writer) -> None:
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reached = await reaching.unreached("127.0.0.1", port)
    server.close()
    await server.wait_closed()

    assert "" == reached
    # The port is held, and nobody listens there.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = held.getsockname()[1]
        assert f"127.0.0.1:{closed}: Connection refused" == await reaching.unreached(
            "127.0.0.1", closed
        )


async def test_a_port_that_does_not_answer_is_given_up(monkeypatch):
    async def never(*_address: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    monkeypatch.setattr(reaching, "CONNECT_S", 0.01)

    assert "[::1]:7602: nothing answers" == await reaching.unreached("::1", 7602)
