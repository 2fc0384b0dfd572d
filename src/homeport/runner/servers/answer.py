"""Sends one response, and keeps its last message back until the app's work has ended."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from homeport.runner.servers.held import GRACE_S, Held

TOO_LARGE = "homeport: the body is larger than 4 GiB"
NO_BODY = (204, 304)  # RFC 9110, 6.4.1
CLOSE = (b"connection", b"close")
UNKNOWN = 1 << 62  # the bytes that remain of a response without a length
#: The ingress sends a request elsewhere that another machine answers with 425 (ingress/elsewhere.py). So an app's own 425 leaves
#: the container as another status, and the ingress writes the app's status back (ingress/rules.py).
TOO_EARLY, INSTEAD = 425, 499
AS_APP = (b"x-homeport-status", b"425")

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(Exception):
    """A body without a length was longer than 4 GiB."""


class Answer:
    """One response.

    The message that completes the response is kept back until the app returns, usually at once. If the app
    continues (a background task), its slot is first reported as held, so that no other request gets it.
    """

    # Defaults here and not in `__init__`: most responses change few of them.
    too_large = False  # whatever the app makes of the exception, the answer is 413
    is_kept = False
    is_held = False
    _begun = _done = _given_up = False
    _left_bytes = UNKNOWN  # bytes of the body
    _flushing: "asyncio.Task[None] | None" = None

    def __init__(
        self,
        scope: Message,
        send: Send,
        held: Held,
        *,
        last: "asyncio.Future[None] | None" = None,
    ) -> None:
        self._scope = scope
        self._send = send
        self._held = held
        # Set for a single-use container's one response: done when no more requests are sent here.
        self._last = last
        self._kept: list[Message] = []

    async def send(self, message: Message) -> None:
        """Pass on the app's message, unless the response was given up."""
        if self.too_large and not self._begun:
            await self.give_up(413, TOO_LARGE)
        if self._given_up:
            return
        kind = message["type"]
        if kind == "http.response.body":
            more = message.get("more_body")
            self._left_bytes -= len(message.get("body", b""))
            if not more or self._left_bytes <= 0 or self.is_kept:
                self._keep(message)
                return
        elif kind == "http.response.start":
            if message["status"] == TOO_EARLY:
                fields = [*message.get("headers", ()), AS_APP]
                message = {**message, "status": INSTEAD, "headers": fields}
            if self._last is not None:
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            if self._is_whole(message):
                self._keep(message)
                return
            self._begun = True
        elif kind != "websocket.send":
            if kind == "websocket.close" and self._begun:
                self._keep(message)
                return
            self._note(message)
        await self._send(message)

    async def flush(self) -> None:
        """Send the message that was held back."""
        if self._last is not None:
            await self._last
        if self._flushing is not None:
            await self._flushing
        messages, self._kept, self.is_kept = self._kept, [], False
        for message in messages:
            self._note(message)
            await self._send(message)

    @property
    def has_begun(self) -> bool:
        """True if the app has begun its response, or another one was sent instead."""
        return self._begun or self.is_kept or self._given_up

    async def give_up(self, status: int, text: str, *, close: bool = False) -> bool:
        """Answer instead of the app. Return False if the app's answer has begun and is not complete.

        `close` ends the connection after the answer.
        """
        if self._done:
            return True
        if self._given_up:
            return not self._begun
        self._given_up = True
        if self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": 1011, "reason": text[:120]})
            return True
        if self._begun:
            return False
        self._done = True
        await answer_with(self._send, status, text, close=close)
        return True

    def _note(self, message: Message) -> None:
        """Note a message before it is sent."""
        kind = message["type"]
        if kind == "http.response.body":
            self._done = not message.get("more_body")
        elif kind == "websocket.close":
            self._done = True
            if not self._begun:
                self._say_refusal(403)
        elif kind == "websocket.http.response.start":
            self._begun = True
            self._say_refusal(message["status"])
        elif kind in ("http.response.start", "websocket.accept"):
            self._begun = True

    def _is_whole(self, start: Message) -> bool:
        """Return whether the response has no body, so that its head completes it."""
        if start["status"] in NO_BODY or self._scope["method"] == "HEAD":
            return True
        for name, value in start.get("headers", ()):
            if len(name) == 14 and name.lower() == b"content-length":
                self._left_bytes = int(value)
                return not self._left_bytes
        return False

    def _keep(self, message: Message) -> None:
        if self._scope.get("method") == "HEAD" and message.get("more_body"):
            return  # the visitor does not read it, and it may be large
        self._kept.append(message)
        if not self.is_kept:
            self.is_kept = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self.is_kept:  # the app has not returned yet
            asyncio.get_running_loop().call_later(GRACE_S, self._hold)

    def _hold(self) -> None:
        if self._last is not None:  # the slot is held already, from the request's start
            self._last.add_done_callback(self._let_go)
        elif self.is_kept and not self.is_held:
            self.is_held = True
            self._held.begin().add_done_callback(self._let_go)

    def _let_go(self, _confirmed: "asyncio.Future[None]") -> None:
        if self.is_kept and self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush_held())

    async def _flush_held(self) -> None:
        while self._kept:
            message = self._kept.pop(0)
            self._note(message)
            await self._send(message)
        self.is_kept = False

    def _say_refusal(self, status: int) -> None:
        print(f"WEBSOCKET {self._scope['path']} was refused by the app ({status})", file=sys.stderr)  # noqa: T201 - the container's log


async def answer_with(send: Send, status: int, text: str, *, close: bool = False) -> None:
    """Send a whole response of homeport's own, as text."""
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *((CLOSE,) if close else ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
