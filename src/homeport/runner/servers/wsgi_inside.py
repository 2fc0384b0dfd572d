"""The requests in a WSGI container's threads: their deadlines, and the slots that they hold.

A thread cannot be stopped. After a request's deadline, its visitor gets 504, another thread replaces the one
that hangs, and too many hanging threads end the container.
"""

import asyncio
import contextlib
import math
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import FunctionSpec
from homeport.runner.door import Door
from homeport.runner.servers import bodies
from homeport.runner.servers.ending import Ending
from homeport.runner.servers.held import CONFIRM_S, GRACE_S
from homeport.runner.servers.serving import Serving

LOOK_S = 0.5
IDLE_LOOK_S = 1.0
QUICK = 10  # after so many quick `close` calls in a row, expect the next one to be quick too


@dataclass(eq=False)
class One:
    """A request that a thread is busy with."""

    request: Any  # cheroot's HTTPRequest
    name: str | None  # its X-Request-Id
    deadline: float  # monotonic
    thread: threading.Thread
    is_late = False
    is_held = False
    is_last = False  # True for a single-use container's request: its slot stays held
    confirmed: threading.Event | None = (
        None  # set when the ingress keeps the slot back, or after CONFIRM_S
    )
    closing_since = math.inf  # when only the last bytes of the response were left (monotonic)

    @property
    def waits_since(self) -> float:
        """Since when its thread has waited for a part of the body (monotonic)."""
        return float(self.request.conn.rfile.incoming.waits_since)


class Inside:
    """All requests inside. Threads enter and leave; the loop checks the deadlines."""

    def __init__(self, begun: Serving) -> None:
        self.is_slow = False  # True if the app's `close` has taken long
        self._quick = 0  # how many quick `close` calls in a row since then
        self._begun = begun
        self._timeout_s = begun.order.function.timeout_s
        self._loop = asyncio.get_running_loop()
        self._inside: dict[One, None] = {}

    def enter(self, request: Any, name: str | None) -> One:
        """Add the request that the calling thread begins."""
        deadline = time.monotonic() + self._timeout_s
        one = One(request, name, deadline, threading.current_thread())
        self._inside[one] = None
        if (pulse := self._begun.pulse) is not None:
            pulse.began()
            self._tell()
        return one

    def leave(self, one: One) -> None:
        """Remove the request of the calling thread."""
        self._inside.pop(one, None)
        if one.is_held and not one.is_last:
            self._on_loop(self._begun.held.end)
        if self._begun.pulse is not None:
            self._tell()

    def hold(self, one: One) -> None:
        """Wait until no request is sent to this slot: its work goes on after the response."""
        if not (one.is_held or one.is_late):
            self._begin_to_hold(one)
        if one.confirmed is not None:
            one.confirmed.wait(2 * CONFIRM_S)

    def use_up(self, one: One) -> None:
        """Hold the slot of a single-use container's one request: no request may be sent here while it ends."""
        one.is_last = True
        self._begin_to_hold(one)

    def _begin_to_hold(self, one: One) -> None:
        one.is_held = True
        one.confirmed = confirmed = threading.Event()

        def begin() -> None:
            self._begun.held.begin().add_done_callback(lambda _: confirmed.set())

        self._on_loop(begin)

    def closed_in(self, seconds: float) -> None:
        """Record how long the app's `close` took."""
        if seconds > GRACE_S:
            self.is_slow, self._quick = True, 0
        elif self.is_slow:
            self._quick += 1
            self.is_slow = self._quick < QUICK

    async def watch(self, threads: Any) -> None:
        """Enforce the deadlines, and do what a busy thread cannot: send last bytes, notice a hang-up."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._timeout_s / 10) if self._inside else IDLE_LOOK_S)
            now = time.monotonic()
            for one in list(self._inside):
                if one.is_late:
                    continue
                if one.deadline <= now:
                    self._expire(one, threads)
                elif one.waits_since < now - bodies.STALL_S and not one.request.has_begun:
                    self._end_stalled(one, threads)
                elif one.closing_since < now - GRACE_S:
                    self.is_slow = True
                    self._release(one)
                elif not one.is_held and _has_left(one.request.conn.socket):
                    one.is_held = True
                    self._begun.held.add()

    def _release(self, one: One) -> None:
        """Send the last bytes of a response whose work goes on; its thread does not use the socket now."""
        if one.is_held and not one.is_last:
            return

        def send(_confirmed: object) -> None:
            if one.closing_since < math.inf:
                with contextlib.suppress(OSError):
                    if one.request.chunked_write and one.request.sent_headers:
                        one.request.conn.wfile.write(b"0\r\n\r\n")
                        one.request.chunked_write = False
                    one.request.conn.wfile.flush()
                    # The thread is busy, so no other request may come on this connection.
                    one.request.conn.socket.shutdown(socket.SHUT_RDWR)

        if one.is_last:  # no request was sent here since it began
            send(None)
            return
        one.is_held = one.request.close_connection = True
        self._begun.held.begin().add_done_callback(send)

    def _expire(self, one: One, threads: Any) -> None:
        """Answer 504 for a request that takes too long, and abandon its thread."""
        seconds = f"{self._timeout_s:g} s"
        _say(one, f"a request took longer than its timeout of {seconds}")
        begun = one.request.sent_headers
        text = f"the function took longer than {seconds}"
        self._end(one, threads, None if begun else _answer("504 Gateway Timeout", text))
        if begun:
            self._begun.slots.cut()

    def _end_stalled(self, one: One, threads: Any) -> None:
        """Answer 408 for a request whose body does not arrive; its thread gets an error from `read`."""
        path = one.request.uri.partition(b"?")[0].decode("latin-1")  # as it was sent: no controls
        _say(one, f"{one.request.method.decode()} {path}: {bodies.why()}")
        one.request.conn.rfile.incoming.is_stalled = True
        self._end(one, threads, _answer("408 Request Timeout", bodies.why()))

    def _end(self, one: One, threads: Any, answer: bytes | None) -> None:
        """Answer instead of the app, close the connection, and abandon the thread if it goes on."""
        one.is_late = one.request.sent_headers = True
        connection = one.request.conn.socket
        with contextlib.suppress(OSError):
            if answer is not None:
                connection.setblocking(False)
                connection.send(answer)
            connection.shutdown(socket.SHUT_RDWR)
        self._loop.call_later(LOOK_S, self._abandon, one, threads)

    def _abandon(self, one: One, threads: Any) -> None:
        if one in self._inside:  # it still runs, although its socket is closed
            self._inside.pop(one, None)
            self._tell()
            threads.replace(one.thread)
            self._begun.slots.stick(lambda: threads.is_replaced(one.thread))

    def _tell(self) -> None:
        if (pulse := self._begun.pulse) is not None:
            first = next(iter(self._inside), None)
            pulse.inside(len(self._inside), first.deadline if first is not None else None)

    def _on_loop(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(work)


class Once:
    """Lets a single-use container take one request; several threads may ask at the same time."""

    def __init__(
        self, function: FunctionSpec, door: Door, loop: asyncio.AbstractEventLoop, ending: Ending
    ) -> None:
        self.counts = function.single_use
        self._door = door
        self._loop, self._ending = loop, ending
        self._lock = threading.Lock()
        self._taken = False

    def refuses(self) -> bool:
        """Return True if a request was taken before; else take this one and return False."""
        if not self.counts:
            return False
        with self._lock:
            taken, self._taken = self._taken, True
        if not taken:
            self._door.shut()
        return taken

    def end(self) -> None:
        """End the container, because its request was answered."""
        self._loop.call_soon_threadsafe(self._ending.finish)


def _answer(status: str, text: str) -> bytes:
    text = f"homeport: {text}\n"
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Connection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


def _say(one: One, text: str) -> None:
    mark = f"\x1e{one.name}\x1f" if one.name else ""
    print(f"{mark}{text}", file=sys.stderr)  # noqa: T201 - the container's log


def _has_left(connection: socket.socket) -> bool:
    """Return whether the other side has closed the connection (man 2 poll, POLLRDHUP)."""
    if connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP)
    return any(events & (select.POLLHUP | select.POLLRDHUP) for _, events in poll.poll(0))
