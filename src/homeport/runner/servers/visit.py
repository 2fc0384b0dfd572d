"""One request in the container: it holds a slot until its work has ended, and ends at its deadline.

`Admission` makes one for each request. It ends a request that takes longer than `timeout`, whose visitor has left, or
whose body does not arrive, and logs the app's exceptions.
"""

import asyncio
import fcntl
import math
import struct
import sys
import termios
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from homeport.runner.servers import bodies, slots
from homeport.runner.servers.answer import TOO_LARGE, Answer, BodyTooLarge, Message, Send
from homeport.runner.servers.held import GRACE_S, Held
from homeport.runner.servers.slots import Slots, Stay
from homeport.sdk import context
from homeport.sdk.tracebacks import users_traceback

LEAVE_S = 0.5
END_S = 1.0  # how long a cancelled app may take to end
GONE = ("WebSocketDisconnect", "ClientDisconnected", "ConnectionClosed", "ConnectionClosedOK")
NORMAL = (1000, 1001, 1005)  # codes of a normal close of a WebSocket (RFC 6455, 7.4.1)

Receive = Callable[[], Awaitable[Message]]


class Connection(Protocol):
    """The part of the app server's connection that `Visit` uses."""

    transport: asyncio.Transport
    visit: "Visit | None"
    body_parts: int  # how many parts of bodies have arrived

    @property
    def is_answered(self) -> bool: ...
    @property
    def is_open_ended(self) -> bool: ...
    def cut(self, *, at_once: bool) -> None: ...


class Visit(Stay):
    """One request, from its head to the end of its work."""

    closed_with = 0  # the code with which the visitor has closed a WebSocket
    waits_since = math.inf  # since when the app has waited for a part of the body (loop's clock)
    _seen_parts = -1  # of the body, when `end_if_stalled` looked
    _runs = False  # True while the app runs
    _is_gone = _is_over = _is_held = False
    _leaving: "asyncio.TimerHandle | None" = None
    _expiring: "asyncio.Task[None] | None" = None

    def __init__(
        self,
        scope: Message,
        send: Send,
        connection: Connection | None,
        inside: Slots,
        held: Held,
        *,
        request: str | None,
        last: "asyncio.Future[None] | None" = None,
    ) -> None:
        self.answer = Answer(scope, send, held, last=last)
        self._scope = scope
        self._connection = connection
        self._slots = inside
        self._held = held
        self._task = asyncio.current_task()
        self._request = request
        inside.enter(self)
        if connection is not None:
            connection.visit = self

    async def run(self, app: Any, scope: Message, receive: Receive) -> None:
        """Run the app, and hold the slot until its work has ended."""
        answer = self.answer
        self._runs = True
        try:
            if not self.is_seated:
                await self._slots.turn(self)
            await app(scope, receive, answer.send)
            self._runs = False
            if answer.is_kept:
                await answer.flush()
        except GeneratorExit:
            raise
        except BaseException as error:
            self._runs = False
            await self._failed(error)
        if self._leaving is not None:
            self._leaving.cancel()
        if self._expiring is not None:
            await self._expiring
        if self.is_late or self._is_gone:
            await self._wait_for_thread()
        if answer.is_held or self._is_held:
            self._held.end()
        self._is_over = True
        self._slots.leave(self)
        if self._connection is not None and self._connection.is_open_ended:
            # The rest of the request may arrive until the deadline. asgi.py looks at unread responses: a
            # timer for each response would keep many requests in memory.
            asyncio.get_running_loop().call_at(self.deadline, self._cut_if_same)

    def hang_up(self) -> None:
        """Record that the visitor has left."""
        connection = self._connection
        if connection is None or connection.is_answered or self._is_over or self.is_late:
            return
        if self._leaving is None:
            loop = asyncio.get_running_loop()
            if self._scope["type"] == "http":
                # First give an app that waits for `http.disconnect` time to end by itself.
                self._leaving = loop.call_later(LEAVE_S, self._leave)
            loop.call_later(GRACE_S, self._go_on)

    def cut_if_unread(self, now: float) -> None:
        """End the connection if the deadline has passed and the request or the response is not complete."""
        connection = self._connection
        if connection is None or now < self.deadline:
            return
        if not (self._is_over or connection.is_answered):
            return
        if self.is_unread:
            connection.transport.abort()
            self._slots.cut()

    @property
    def is_unread(self) -> bool:
        """True while the visitor has not read the whole response, or not sent the whole request."""
        if self._connection is None:
            return False
        transport = self._connection.transport
        return bool(
            self._connection.is_open_ended
            or transport.get_write_buffer_size()
            or _unread_bytes(transport)
        )

    def end_if_stalled(self, now: float) -> None:
        """End the request if the rest of its body does not arrive."""
        connection = self._connection
        if connection is None:
            return
        if self._is_stalled(now):
            self._expiring = asyncio.get_running_loop().create_task(self._end_stalled())
        elif self._is_over and connection.is_open_ended:
            if self._seen_parts != connection.body_parts:
                self._seen_parts, self.waits_since = connection.body_parts, now
            elif now - self.waits_since > bodies.STALL_S:
                connection.transport.abort()

    def _is_stalled(self, now: float) -> bool:
        """Return whether the app has waited too long for a part of the body."""
        return (
            self._runs
            and now - self.waits_since > bodies.STALL_S
            and not (self.is_late or self._is_gone or self.answer.has_begun)
        )

    async def _end_stalled(self) -> None:
        """Answer 408, and end the app as if the visitor had left."""
        loop = asyncio.get_running_loop()
        if not self._is_stalled(loop.time()):
            return
        self._is_gone = True
        self._leaving = loop.call_later(LEAVE_S, self._leave)
        loop.call_later(GRACE_S, self._go_on)
        context.input_id.set(self._request)
        path = self._scope["raw_path"].decode("latin-1")  # as it was sent: no controls
        _say(f"{self._scope['method']} {path}: {bodies.why()}")
        try:
            text = f"homeport: {bodies.why()}"
            await asyncio.wait_for(self.answer.give_up(408, text, close=True), END_S)
        except Exception:  # the visitor has left
            self._cut(at_once=True)

    def _go_on(self) -> None:
        """Report the slot as held: the ingress counts it as free, and the app still runs."""
        if not (self._is_over or self._is_held or self.answer.is_held):
            self._is_held = True
            self._held.add()

    def _leave(self) -> None:
        self._is_gone = True
        self._cancel()

    def _cancel(self) -> None:
        if self._runs and self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        """End the request, because its deadline has passed."""
        self._expiring = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        """Answer 504, and end the app."""
        seconds = f"{self._slots.timeout_s:g} s"
        _say(f"a request took longer than its timeout of {seconds}")
        # Answer first: a handler in a thread cannot be stopped.
        text = f"homeport: the function took longer than {seconds}"
        try:
            await asyncio.wait_for(self._finish(504, text), END_S)
        except Exception:  # the visitor does not read, or the app's response was not valid HTTP
            self._cut(at_once=True)
        self._cancel()
        asyncio.get_running_loop().call_later(END_S, self._abandon)

    async def _finish(self, status: int, text: str) -> None:
        """Send the rest of the app's response, or answer instead of the app."""
        if self.answer.is_kept:
            await self.answer.flush()
        if not await self.answer.give_up(status, text):
            self._cut(at_once=self.is_late)

    def _cut(self, *, at_once: bool) -> None:
        if self._connection is not None:
            self._connection.cut(at_once=at_once)
            if at_once:
                self._slots.cut()

    def _abandon(self) -> None:
        """Stop waiting for an app that continues although it was cancelled."""
        if not self._is_over and self._runs:
            self._slots.leave(self)
            self._slots.stick(lambda: not self._is_over)

    async def _failed(self, error: BaseException) -> None:
        """Log the app's exception, and answer 500 if nothing was answered."""
        if self.is_late or self._is_gone:
            return
        if isinstance(error, BodyTooLarge):
            await self._finish(413, TOO_LARGE)
            return
        if isinstance(error, asyncio.CancelledError) and self._is_ending():
            raise error
        what = f"{self._scope.get('method', 'WEBSOCKET')} {self._scope['path']}"
        if self.closed_with and type(error).__name__ in GONE:
            if self.closed_with not in NORMAL:
                _say(f"{what}: the visitor has gone ({self.closed_with})")
            return
        _say(f"{what} failed\n{users_traceback(error, libraries=False)}")
        try:
            await self._finish(500, "Internal Server Error")
        except Exception as wrong:  # the app's response was not valid HTTP
            _say(users_traceback(wrong, libraries=False))
            self._cut(at_once=False)

    def _is_ending(self) -> bool:
        """Return whether the container's end has cancelled the app, and not the app itself."""
        cancelling = getattr(self._task, "cancelling", None)  # Python 3.11
        return bool(cancelling()) if cancelling is not None else False

    async def _wait_for_thread(self) -> None:
        """Hold the slot while a thread of a cancelled handler runs, at most until the deadline."""
        request = self._request
        if request is None or not slots.busy(request):
            return
        if self.is_late:
            self._slots.stick(lambda: slots.busy(request))
            return
        self._go_on()
        if not await slots.until_free(request, self.deadline):
            self._slots.stick(lambda: slots.busy(request))

    def _cut_if_same(self) -> None:
        if self._connection is not None and self._connection.visit is self:
            self.cut_if_unread(self.deadline)


def _unread_bytes(transport: asyncio.Transport) -> int:
    """Return how many sent bytes the other side has not read (man 7 unix, SIOCOUTQ)."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the container's log
