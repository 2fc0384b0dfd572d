"""The container's event loop: uvloop, but everybody who waits at the door is let in at once.

By itself it takes one connection a turn, and a turn under load is long: of 256 visitors who came at once,
80 had no answer after 2 s (uvloop 0.23; asyncio's own loop answered all of them within 0.06 s).
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

from homeport.runner.door import Door


def new() -> asyncio.AbstractEventLoop:
    """A loop of the user's environment: uvloop's where it is there."""
    base: Any = asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:  # the user's environment has not got it
        pass
    else:
        base = uvloop.Loop

    class Loop(base):  # type: ignore[misc]
        """With servers of ours for the container's door."""

        async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
            door = options.get("sock")
            if isinstance(door, Door):
                return Entrance(self, door, protocol_factory)
            return await super().create_server(protocol_factory, *args, **options)

    made: asyncio.AbstractEventLoop = Loop()
    return made


class Entrance:
    """Lets everybody in who comes to the door; as much of `asyncio.Server` as app servers ask of one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        door: Door,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._loop = loop
        self._door = door
        self._factory = protocol_factory
        self._entering: set[asyncio.Task[Any]] = set()
        self._reads = True
        loop.add_reader(door.fileno(), self._let_in)

    @property
    def sockets(self) -> tuple[Door, ...]:
        """The one that listens, while it does."""
        return (self._door,) if self.is_serving() else ()

    def is_serving(self) -> bool:
        """Whether anybody is let in."""
        return self._door.fileno() >= 0

    def close(self) -> None:
        """Let nobody in any more; those inside stay."""
        if self.is_serving():
            self._read_no_more()
            self._door.shut()
            self._door.close()

    async def wait_closed(self) -> None:
        """It is, at once."""

    def _let_in(self) -> None:
        while True:
            try:
                visitor, _ = self._door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EINVAL:  # it is shut, and nobody is left in its queue
                    self._read_no_more()
                # Else no descriptor is left, or the visitor has gone: the next turn tries again.
                return
            visitor.setblocking(False)
            task = self._loop.create_task(
                self._loop.connect_accepted_socket(self._factory, visitor)
            )
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _read_no_more(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._door.fileno())
