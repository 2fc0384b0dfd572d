"""Admits each request to the user's ASGI app: gives it a slot, and ends it at its deadline.

Called by the app server. Chooses the web method, keeps `max_inputs` also if the ingress sends more, ends
requests that take longer than `timeout`, sets `current_input_id()`, and logs the app's exceptions.
"""

import asyncio
import fcntl
import math
import struct
import sys
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from homeport.contract.sizes import MAX_BODY_BYTES
from homeport.runner.servers import bodies, head, slots
from homeport.runner.servers.answer import TOO_LARGE, Answer, BodyTooLarge, Message, Send
from homeport.runner.servers.held import GRACE_S, Held
from homeport.runner.servers.lifespan import Lifespan
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.slots import Slots, Stay
from homeport.sdk import context
from homeport.sdk.tracebacks import users_traceback

LEAVE_S = 0.5
END_S = 1.0  # how long a cancelled app may take to end
FLUSH_S = 3.0  # how long the one response of a single-use container may take to be sent
USED_UP = "homeport: this container has taken its one request"
CONNECTION = "homeport.connection"  # in an ASGI scope, before the app sees it: a `Connection`
GONE = ("WebSocketDisconnect", "ClientDisconnected", "ConnectionClosed", "ConnectionClosedOK")
NORMAL = (1000, 1001, 1005)  # codes of a normal close of a WebSocket (RFC 6455, 7.4.1)

Receive = Callable[[], Awaitable[Message]]


@dataclass(frozen=True)
class Method:
    """A web method's app and its lifespan."""

    app: Any
    lifespan: Lifespan


class Connection(Protocol):
    """The part of the app server's connection that `Admission` uses."""

    transport: asyncio.Transport
    visit: "Visit | None"
    body_parts: int  # how many parts of bodies have arrived

    @property
    def is_answered(self) -> bool: ...
    @property
    def is_open_ended(self) -> bool: ...
    def cut(self, *, at_once: bool) -> None: ...


class Admission:
    """The ASGI app that the container's server calls."""

    def __init__(self, methods: dict[str, Method], begun: Serving) -> None:
        self._single_use = begun.order.function.single_use
        self._methods = methods
        self._only = next(iter(methods.values())) if len(methods) == 1 else None
        self._slots = begun.slots
        self._held = begun.held
        self._ending = begun.ending
        self._door = begun.door
        self._taken = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Admit one request."""
        connection = scope.pop(CONNECTION, None)
        found = head.read(scope)
        context.input_id.set(found.request_id)
        method = self._only if self._only is not None else self._methods.get(found.method)
        if method is None:
            await Answer(scope, send, self._held).give_up(404, "homeport: no such web method")
            return
        last = None
        if self._single_use:
            if self._taken:  # during a reload, two HAProxy processes may each send a request
                await Answer(scope, send, self._held).give_up(503, USED_UP)
                return
            self._taken = True
            self._door.shut()
            # Hold the slot for good: no request may be sent here while the container ends.
            last = self._held.begin()
            self._ending.finish()
        scope["state"] = dict(method.lifespan.state)
        visit = Visit(
            scope,
            send,
            connection,
            self._slots,
            self._held,
            request=found.request_id,
            last=last,
        )
        if connection is not None and connection.is_open_ended:
            receive = _Awaited(receive, visit).receive
        if found.chunked:
            receive = _Counted(receive, visit.answer).receive
        if scope["type"] == "websocket":
            receive = _Closing(receive, visit).receive
        await visit.run(method.app, scope, receive)
        if self._single_use:
            # A connection that arrived at the last moment must not keep the container forever.
            asyncio.get_running_loop().call_later(FLUSH_S, self._ending.cut.set)


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
        """Note that the visitor has gone."""
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
        transport = connection.transport
        if (
            connection.is_open_ended
            or transport.get_write_buffer_size()
            or _unread_bytes(transport)
        ):
            transport.abort()
            self._slots.cut()

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
        except Exception:  # the visitor has gone
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


class _Counted:
    """Counts a body without a length; raises `BodyTooLarge` above the limit."""

    def __init__(self, receive: Receive, answer: Answer) -> None:
        self._receive = receive
        self._answer = answer
        self._seen_bytes = 0

    async def receive(self) -> Message:
        """The next message."""
        message = await self._receive()
        self._seen_bytes += len(message.get("body", b""))
        if self._seen_bytes > MAX_BODY_BYTES:
            self._answer.too_large = True
            raise BodyTooLarge
        return message


class _Awaited:
    """Notes since when the app has waited for the next part of a body."""

    def __init__(self, receive: Receive, visit: Visit) -> None:
        self._receive = receive
        self._visit = visit
        self._waiting = 0  # calls of `receive`, of which an app may make several at once

    async def receive(self) -> Message:
        """The next message."""
        if not self._waiting:
            self._visit.waits_since = asyncio.get_running_loop().time()
        self._waiting += 1
        try:
            return await self._receive()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._visit.waits_since = math.inf


class _Closing:
    """Passes a WebSocket's messages, and notes the code of its close."""

    def __init__(self, receive: Receive, visit: Visit) -> None:
        self._receive = receive
        self._visit = visit

    async def receive(self) -> Message:
        """The next message."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._visit.closed_with = message.get("code") or 1005
        return message


def _unread_bytes(transport: asyncio.Transport) -> int:
    """Return how many sent bytes the other side has not read (man 7 unix, SIOCOUTQ)."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the container's log
