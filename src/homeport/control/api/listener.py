"""Serves the API on a socket: uvicorn, without its signal handlers."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.types import ASGIApp

from homeport.contract.errors import PortTaken
from homeport.control.api import uvicorn_server
from homeport.supervised import log_failure

#: Ask an idle connection after 30 s, three times; give one up whose data is not acknowledged for 60 s.
VANISHED = {
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 60_000,
}
CLOSE_S = 1.0  # an open stream must not hold up the end
LOOK_S = 0.005  # between two looks whether the last response has ended


def unix_socket(path: Path) -> socket.socket:
    """Return a listening Unix socket with mode 0600; replace one that an earlier run left."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # so that it is private from its first moment
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def tcp_socket(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; `PortTaken` if another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise PortTaken(
            f"the API cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another HOMEPORT_API_PORT",
        ) from None
    # Connections inherit it (man 7 tcp). asyncio sets it only where a socket names its protocol, and without it each
    # answer of two writes takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # So that the session of a machine that disappeared without a message ends.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in VANISHED.items():
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    return listener


class _Server(uvicorn_server.Server):
    def __init__(self, config: uvicorn_server.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The control plane has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Wait for the end. uvicorn wakes ten times a second, for the date, which the API does not send."""
        await self.on_tick(0)
        await self.ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections, and what still runs after CLOSE_S. uvicorn waits for 0.1 s, also if there is nothing to end."""
        for listens in (*self.servers, *(sockets or ())):
            listens.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(LOOK_S)
        for task in self.server_state.tasks:
            task.cancel()


@asynccontextmanager
async def listening(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on the socket inside the block."""
    config = uvicorn_server.Config(
        app,
        lifespan="off",
        ws=uvicorn_server.WEBSOCKETS,
        log_config=None,
        date_header=False,
        access_log=False,
        proxy_headers=False,  # else a caller on this machine chooses the address whose wrong tokens are counted
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]), name="the API")
    serving.add_done_callback(log_failure)
    listens = asyncio.ensure_future(server.listening.wait())
    await asyncio.wait([serving, listens], return_when=asyncio.FIRST_COMPLETED)
    if not listens.done():  # the server ended before it listened
        listens.cancel()
        await serving
    try:
        yield
    finally:
        server.ending.set()
        await serving
        listener.close()
