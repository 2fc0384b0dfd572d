"""The container's event loop: uvloop, but everybody who waits at the door is let in at once.

By itself it takes one connection a turn, and a turn under load is long: of 256 visitors who came at once,
80 had no answer after 2 s (uvloop 0.23; asyncio's own loop answered all of them within 0.06 s).
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any


def new() -> asyncio.AbstractEventLoop:
    """A loop of the user's environment: uvloop's where it is there."""
    try:
        import uvloop
    except ImportError:  # the user's environment has not got it
        return asyncio.new_event_loop()

    class Loop(uvloop.Loop):
        """Uvloop's, with a door of ours for servers on a Unix socket."""

        async def create_unix_server(
            self, protocol_factory: Any, path: Any = None, *, backlog: int = 100, **options: Any
        ) -> Any:
            if path is None or any(options.values()):  # TLS, or a socket of somebody's own
                return await super().create_unix_server(
                    protocol_factory, path, backlog=backlog, **options
                )
            return Door(self, os.fspath(path), protocol_factory, backlog)

    return Loop()


class Door:
    """A listening Unix socket; as much of `asyncio.Server` as app servers ask of one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
    ) -> None:
        self._loop = loop
        self._path = path
        self._factory = protocol_factory
        self._entering: set[asyncio.Task[Any]] = set()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - pathlib costs 10 ms
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._socket.bind(path)
        self._socket.listen(backlog)
        loop.add_reader(self._socket.fileno(), self._let_in)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The one that listens, while it does."""
        return (self._socket,) if self.is_serving() else ()

    def is_serving(self) -> bool:
        """Whether anybody is let in."""
        return self._socket.fileno() >= 0

    def close(self) -> None:
        """Let nobody in any more; those inside stay."""
        if self.is_serving():
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108

    async def wait_closed(self) -> None:
        """It is, at once."""

    def _let_in(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except BlockingIOError:
                return
            except (
                OSError
            ):  # no descriptor is left, or the visitor has gone: the next turn tries again
                return
            visitor.setblocking(False)
            task = self._loop.create_task(
                self._loop.connect_accepted_socket(self._factory, visitor)
            )
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)
