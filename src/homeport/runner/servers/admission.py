"""Admits each request to the user's ASGI app.

Called by the app server. Chooses the web method, keeps `max_inputs` also if the ingress sends more, and sets
`current_input_id()`. `Visit` does the rest.
"""

import asyncio
import math
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MAX_BODY_BYTES
from homeport.runner.servers import head
from homeport.runner.servers.answer import Answer, BodyTooLarge, Message, Send
from homeport.runner.servers.lifespan import Lifespan
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.visit import Receive, Visit
from homeport.sdk import context

FLUSH_S = 3.0  # how long the one response of a single-use container may take to be sent
USED_UP = "homeport: this container has taken its one request"
CONNECTION = "homeport.connection"  # in an ASGI scope, before the app sees it: a `Connection`


@dataclass(frozen=True)
class Method:
    """A web method's app and its lifespan."""

    app: Any
    lifespan: Lifespan


class Admission:
    """The ASGI app that the container's server calls."""

    def __init__(self, methods: dict[str, Method], serving: Serving) -> None:
        self._single_use = serving.order.function.single_use
        self._methods = methods
        self._only = next(iter(methods.values())) if len(methods) == 1 else None
        self._slots = serving.slots
        self._held = serving.held
        self._ending = serving.ending
        self._door = serving.door
        self._taken = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Admit one request."""
        connection = scope.pop(CONNECTION, None)
        request_head = head.read(scope)
        context.input_id.set(request_head.request_id)
        if request_head.trace is not None:
            context.trace.set(request_head.trace)
        method = self._only if self._only is not None else self._methods.get(request_head.method)
        if method is None:
            await Answer(scope, send, self._held).give_up(404, "homeport: no such web method")
            return
        capture = None
        if request_head.capture and scope["type"] == "http":
            from homeport.runner.servers.captured import Capture

            capture = Capture(request_head.capture)
            receive, send = capture.around(scope, receive, send)
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
            request=request_head.request_id,
            last=last,
        )
        if connection is not None and connection.is_open_ended:
            receive = _Awaited(receive, visit).receive
        if request_head.chunked:
            receive = _Counted(receive, visit.answer).receive
        if scope["type"] == "websocket":
            receive = _Closing(receive, visit).receive
        try:
            await visit.run(method.app, scope, receive)
        finally:
            if capture is not None:
                capture.over()
        if self._single_use:
            # A connection that arrived at the last moment must not keep the container forever.
            asyncio.get_running_loop().call_later(FLUSH_S, self._ending.cut.set)


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
