"""The door of a container's server."""

import asyncio
import contextlib
import socket

from homeport.runner import loop


class Visit(asyncio.Protocol):
    """Counts who has come in, and says what it hears."""

    count = 0

    def connection_made(self, transport):
        Visit.count += 1
        self._transport = transport

    def data_received(self, data):
        self._transport.write(data)


def test_everybody_who_waits_is_let_in_at_once_and_served(tmp_path):
    path = str(tmp_path / "door")

    async def story() -> tuple[int, bytes, bool]:
        Visit.count = 0
        server = await asyncio.get_running_loop().create_unix_server(Visit, path, backlog=100)
        with contextlib.ExitStack() as stack:
            visitors = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(50)]
            for visitor in visitors:
                visitor.connect(path)  # nobody is let in before this turn ends
            for _ in range(10):
                await asyncio.sleep(0)
            inside = Visit.count
            visitors[-1].sendall(b"hello")
            heard = await asyncio.to_thread(visitors[-1].recv, 10)
            server.close()
            await server.wait_closed()
            with socket.socket(socket.AF_UNIX) as late, contextlib.suppress(OSError):
                late.connect(path)
                return inside, heard, True
        return inside, heard, server.is_serving()

    with contextlib.closing(loop.new()) as made:
        inside, heard, is_open = made.run_until_complete(story())

    assert 50 == inside
    assert b"hello" == heard
    assert not is_open
