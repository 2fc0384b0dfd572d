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
    #: Set when the ingress keeps the slot back, or after CONFIRM_S.
    confirmed: threading.Event | None = None
    closing_since = math.inf  # when only the last bytes of the response were left (monotonic)

    @property
    def waits_since(self) -> float:
        """Since when its thread has waited for a part of the body (monotonic)."""
        return float(self.request.conn.rfile.incoming.waits_since)


class Inside:
    """All requests inside. Threads enter and leave; the loop checks the deadlines."""

    def __init__(self, serving: Serving) -> None:
        self.is_slow = False  # True if the app's `close` has taken long
        self._quick = 0  # how many quick `close` calls in a row since then
        self._serving = serving
        self._timeout_s = serving.order.function.timeout_s
        self._loop = asyncio.get_running_loop()
        self._inside: dict[One, None] = {}

    def enter(self, request: Any, name: str | None) -> One:
        """Add the request that the calling thread begins."""
        deadline = time.monotonic() + self._timeout_s
        entered = One(request, name, deadline, threading.current_thread())
        self._inside[entered] = None
        if (pulse := self._serving.pulse) is not None:
            pulse.began()
            self._tell()
        return entered

    def leave(self, request: One) -> None:
        """Remove the request of the calling thread."""
        self._inside.pop(request, None)
        if request.is_held and not request.is_last:
            self._on_loop(self._serving.held.end)
        if self._serving.pulse is not None:
            self._tell()

    def hold(self, request: One) -> None:
        """Wait until no request is sent to this slot, because its work continues after the response."""
        if not (request.is_held or request.is_late):
            self._begin_to_hold(request)
        if request.confirmed is not None:
            request.confirmed.wait(2 * CONFIRM_S)

    def use_up(self, request: One) -> None:
        """Hold the slot of a single-use container's one request: no request may be sent here while it ends."""
        request.is_last = True
        self._begin_to_hold(request)

    def _begin_to_hold(self, request: One) -> None:
        request.is_held = True
        request.confirmed = confirmed = threading.Event()

        def begin() -> None:
            self._serving.held.begin().add_done_callback(lambda _: confirmed.set())

        self._on_loop(begin)

    def closed_in(self, seconds: float) -> None:
        """Record how long the app's `close` took."""
        if seconds > GRACE_S:
            self.is_slow, self._quick = True, 0
        elif self.is_slow:
            self._quick += 1
            self.is_slow = self._quick < QUICK

    async def watch(self, threads: Any) -> None:
        """Enforce the deadlines, and do the work of busy threads: send last bytes, notice a hang-up."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._timeout_s / 10) if self._inside else IDLE_LOOK_S)
            now = time.monotonic()
            for request in list(self._inside):
                if request.is_late:
                    continue
                if request.deadline <= now:
                    self._expire(request, threads)
                elif request.waits_since < now - bodies.STALL_S and not request.request.has_begun:
                    self._end_stalled(request, threads)
                elif request.closing_since < now - GRACE_S:
                    self.is_slow = True
                    self._release(request)
                elif not request.is_held and _has_left(request.request.conn.socket):
                    request.is_held = True
                    self._serving.held.add()

    def _release(self, request: One) -> None:
        """Send the last bytes of a response whose work continues; its thread does not use the socket now."""
        if request.is_held and not request.is_last:
            return

        def send(_confirmed: object) -> None:
            if request.closing_since < math.inf:
                # The loop must not wait for a reader.
                if not _can_take(request.request.conn.socket):
                    if not request.is_last:  # else `watch` comes here again
                        self._loop.call_later(LOOK_S, send, None)
                    return
                with contextlib.suppress(OSError):
                    if request.request.chunked_write and request.request.sent_headers:
                        request.request.conn.wfile.write(b"0\r\n\r\n")
                        request.request.chunked_write = False
                    request.request.conn.wfile.flush()
                    # The thread is busy, so no other request may come on this connection.
                    request.request.conn.socket.shutdown(socket.SHUT_RDWR)

        if request.is_last:  # no request was sent here since it began
            send(None)
            return
        request.is_held = request.request.close_connection = True
        self._serving.held.begin().add_done_callback(send)

    def _expire(self, request: One, threads: Any) -> None:
        """Answer 504 for a request that takes too long, and abandon its thread."""
        seconds = f"{self._timeout_s:g} s"
        _say(request, f"a request took longer than its timeout of {seconds}")
        has_begun = request.request.sent_headers
        text = f"the function took longer than {seconds}"
        self._end(request, threads, None if has_begun else _answer("504 Gateway Timeout", text))
        if has_begun:
            self._serving.slots.cut()

    def _end_stalled(self, request: One, threads: Any) -> None:
        """Answer 408 for a request whose body does not arrive; its thread gets an error from `read`."""
        path = request.request.uri.partition(b"?")[0].decode(
            "latin-1"
        )  # as it was sent: no controls
        _say(request, f"{request.request.method.decode()} {path}: {bodies.why()}")
        request.request.conn.rfile.incoming.is_stalled = True
        self._end(request, threads, _answer("408 Request Timeout", bodies.why()))

    def _end(self, request: One, threads: Any, answer: bytes | None) -> None:
        """Answer instead of the app, close the connection, and abandon the thread if it continues."""
        request.is_late = request.request.sent_headers = True
        connection = request.request.conn.socket
        with contextlib.suppress(OSError):
            if answer is not None:
                connection.setblocking(False)
                connection.send(answer)
            connection.shutdown(socket.SHUT_RDWR)
        self._loop.call_later(LOOK_S, self._abandon, request, threads)

    def _abandon(self, request: One, threads: Any) -> None:
        if request in self._inside:  # it still runs, although its socket is closed
            self._inside.pop(request, None)
            self._tell()
            threads.replace(request.thread)
            self._serving.slots.stick(lambda: threads.is_replaced(request.thread))

    def _tell(self) -> None:
        if (pulse := self._serving.pulse) is not None:
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


def _say(request: One, text: str) -> None:
    mark = f"\x1e{request.name}\x1f" if request.name else ""
    print(f"{mark}{text}", file=sys.stderr)  # noqa: T201 - the container's log


def _can_take(connection: socket.socket) -> bool:
    """Return whether the last bytes can be sent without waiting: they are few (wsgi_server.Writer)."""
    number = connection.fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(0))


def _has_left(connection: socket.socket) -> bool:
    """Return whether the other side has closed the connection (man 2 poll, POLLRDHUP)."""
    number = connection.fileno()  # once: its thread may close it at any moment
    if number < 0:
        return False
    poll = select.poll()
    poll.register(number, select.POLLRDHUP)
    return any(events & (select.POLLHUP | select.POLLRDHUP) for _, events in poll.poll(0))
