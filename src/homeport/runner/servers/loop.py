"""The container's event loop: uvloop with a listener that accepts all pending connections per iteration.

uvloop's own listener accepts one connection per iteration, and under load an iteration is long: of 256
concurrent visitors, 80 had no answer after 2 s (uvloop 0.23; asyncio's loop answered all within 0.06 s).
"""

import asyncio
import errno
import importlib.util
import signal
from collections.abc import Callable
from typing import Any

from homeport.contract.pulse import Pulse
from homeport.runner.door import Door

#: Packages that patch the running loop, and can patch only asyncio's own.
NESTERS = ("nest_asyncio", "nest_asyncio2")
#: `accept` failed because descriptors or memory ran out; a later try may succeed.
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_S = 0.25  # before the next try then


class Loop(asyncio.AbstractEventLoop):
    """A mix-in: a script's handler of SIGTERM is called beside the container's own."""

    ours: Callable[[], None] | None = None  # ends the container

    def on_sigterm(self, ours: Callable[[], None]) -> None:
        """Call `ours` on SIGTERM, also if the script sets a handler of its own."""
        self.ours = ours
        super().add_signal_handler(signal.SIGTERM, ours)

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        """As asyncio has it."""
        if sig == signal.SIGTERM and self.ours is not None:
            super().add_signal_handler(sig, self._both, callback, args)
        else:
            super().add_signal_handler(sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """As asyncio has it."""
        removed = bool(super().remove_signal_handler(sig))
        if sig == signal.SIGTERM and self.ours is not None:
            super().add_signal_handler(sig, self.ours)
        return removed

    def _both(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        assert self.ours is not None
        self.ours()
        callback(*args)


def new() -> asyncio.AbstractEventLoop:
    """Return a loop: uvloop's if the image has uvloop and no package needs asyncio's own."""
    if not any(importlib.util.find_spec(name) for name in NESTERS):
        try:
            import uvloop
        except ImportError:  # the image does not have uvloop
            pass
        else:
            return type("Loop", (Loop, uvloop.Loop), {})()  # type: ignore[no-any-return]
    return type("Loop", (Loop, asyncio.SelectorEventLoop), {})()  # type: ignore[no-any-return]


class Entrance:
    """Accepts connections at the door; has the part of `asyncio.Server` that app servers use."""

    def __init__(
        self,
        door: Door,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        pulse: Pulse | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._door = door
        self._factory = protocol_factory
        self._pulse = pulse
        self._entering: set[asyncio.Task[Any]] = set()
        self._is_full = False
        self._reads = False
        self._read(again=True)

    @property
    def sockets(self) -> tuple[Door, ...]:
        """The listening socket, while it listens."""
        return (self._door,) if self.is_serving() else ()

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._door.fileno() >= 0

    def close(self) -> None:
        """Accept no more connections; open connections stay."""
        if self.is_serving():
            self._read(again=False)
            self._door.shut()
            self._door.close()

    async def wait_closed(self) -> None:
        """Return at once: `close` has closed it."""

    def _let_in(self) -> None:
        while True:
            try:
                visitor, _ = self._door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in FULL:
                    self._wait(error.errno)
                elif error.errno == errno.EINVAL:  # the door is shut, and its queue is empty
                    self._read(again=False)
                return  # for other errors: the visitor has closed the connection
            if self._door.is_short != self._is_full:
                self._is_full = self._door.is_short
                self._tell(errno.EMFILE if self._is_full else 0)
            visitor.setblocking(False)
            factory = self._only_one if self._is_full else self._factory
            task = self._loop.create_task(self._loop.connect_accepted_socket(factory, visitor))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _only_one(self) -> asyncio.BaseProtocol:
        """Return a protocol that closes its connection after the first response, if it can."""
        protocol = self._factory()
        if hasattr(protocol, "takes_only_one"):
            protocol.takes_only_one = True
        return protocol

    def _wait(self, number: int) -> None:
        """Report to the node that no connection can be accepted now, and try again after PAUSE_S."""
        self._is_full = True
        self._tell(number)
        self._read(again=False)
        self._loop.call_later(PAUSE_S, self._try_again)

    def _try_again(self) -> None:
        if self.is_serving():
            self._read(again=True)

    def _tell(self, number: int) -> None:
        if self._pulse is not None:
            self._pulse.refused(number)

    def _read(self, *, again: bool) -> None:
        if again and not self._reads:
            self._loop.add_reader(self._door.fileno(), self._let_in)
        elif self._reads and not again:
            self._loop.remove_reader(self._door.fileno())
        self._reads = again
