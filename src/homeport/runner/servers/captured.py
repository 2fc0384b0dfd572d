"""Records a request and its response while its endpoint is captured, and sends both to the server.

The ingress says so in the field that names the web method: `<method>.<token>.<bytes>`, where `bytes` are kept of a body. With
a fourth part, `<share>`, it is a mirror: that many of 10,000 requests are recorded, of those that change nothing and come without
credentials. The ingress writes that field itself, so no visitor can ask for it. What passes here is passed on first and recorded then; a thread sends
what is recorded, and drops it if the server does not take it. The server trusts none of it.
"""

import queue
import random
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from homeport import wire
from homeport.contract import calls, codec
from homeport.contract.captured import CREDENTIALS, OF, SAFE, Captured, Fields, Message
from homeport.runner.servers.answer import AS_APP, INSTEAD, TOO_EARLY
from homeport.sdk import context

QUEUED = 16  # captured requests that wait for the server
_AS_APP = AS_APP[0].decode(), AS_APP[1].decode()
HEAD_BYTES = 64 * 1024  # of a head that a program has written

_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]*\r\n")

Passed = dict[str, Any]
_queue: "queue.Queue[tuple[str, Captured]]" = queue.Queue(QUEUED)
_begun = threading.Lock()
_sender: "threading.Thread | None" = None


class _Body:
    """The recorded part of a body."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self._seen = 0

    def add(self, data: "bytes | bytearray | memoryview") -> None:
        self._seen += len(data)
        if (room := self._most - len(self._kept)) > 0:
            self._kept += data[:room]

    def message(self, fields: Fields) -> Message:
        stored = bytes(self._kept)
        return Message(
            fields=fields, body=stored, body_bytes=self._seen, cut=self._seen > len(stored)
        )


class Capture:
    """One request."""

    def __init__(self, order: str) -> None:
        """`order` is `<token>.<bytes>`, perhaps with `.<share>`."""
        self._token, most, *share = order.split(".")
        self._share = int(share[0]) if share else None
        self._received, self._sent = _Body(int(most)), _Body(int(most))
        self._method = self._target = ""
        self._fields: Fields = ()
        self._answer: Fields = ()
        self._status = 0
        self._is_over = False
        self._at, self._began = time.time(), time.monotonic()

    def came(self, method: str, target: str, fields: Fields) -> None:
        """Note the head of the request."""
        self._method, self._target, self._fields = method, target, fields
        if self._share is not None and not _is_mirrored(self._share, method, fields):
            self._is_over = True
            self._received, self._sent = _Body(0), _Body(0)

    def received(self, data: bytes) -> None:
        """Note a part of the request's body."""
        self._received.add(data)

    def answered(self, status: int, fields: Fields) -> None:
        """Note the head of the response."""
        if status == INSTEAD and _AS_APP in fields:
            status, fields = TOO_EARLY, tuple(field for field in fields if field != _AS_APP)
        self._status, self._answer = status, fields

    def sent(self, data: bytes) -> None:
        """Note a part of the response's body."""
        self._sent.add(data)

    def over(self) -> None:
        """Send everything, once."""
        if self._is_over:
            return
        self._is_over = True
        ids = [value for name, value in self._fields if name.lower() == "x-request-id"]
        record = Captured(
            id=ids[-1] if ids else "",
            at=self._at,
            method=self._method,
            target=self._target,
            request=self._received.message(self._fields),
            status=self._status,
            response=self._sent.message(self._answer),
            took_ms=round((time.monotonic() - self._began) * 1000),
        )
        _send(self._token, record)

    def around(
        self,
        scope: Passed,
        receive: "Callable[[], Awaitable[Passed]]",
        send: "Callable[[Passed], Awaitable[None]]",
    ) -> "tuple[Callable[[], Awaitable[Passed]], Callable[[Passed], Awaitable[None]]]":
        """Note the head of an ASGI request; return what passes its messages on and notes them."""
        query = scope.get("query_string", b"")
        path = scope.get("raw_path") or scope["path"].encode()
        target = path + (b"?" + query if query else b"")
        self.came(scope["method"], target.decode("latin-1"), decoded(scope["headers"]))

        async def receiving() -> Passed:
            message = await receive()
            self.received(message.get("body", b""))
            return message

        async def sending(message: Passed) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.answered(message["status"], decoded(message.get("headers", ())))
            elif message["type"] == "http.response.body":
                self.sent(message.get("body", b""))

        return receiving, sending


class Raw:
    """A request whose bytes pass unread to a program, and come back so."""

    def __init__(self, order: str) -> None:
        self._capture = Capture(order)
        most = int(order.split(".")[1]) + HEAD_BYTES
        self._there, self._back = _Body(most), _Body(most)

    def received(self, data: bytes) -> None:
        """Note a part of the request."""
        self._there.add(data)

    def sent(self, data: bytes) -> None:
        """Note a part of the response."""
        self._back.add(data)

    def over(self) -> None:
        """Take the heads apart, and send everything."""
        first, fields, body = _parsed(self._there.message(()).body)
        method, target = (*first.split(" "), "", "")[:2]
        self._capture.came(method, target, fields)
        self._capture.received(body)
        first, fields, body = _parsed(_final(self._back.message(()).body))
        if first.startswith("HTTP/1.") and first[9:12].isdigit():
            self._capture.answered(int(first[9:12]), fields)
            self._capture.sent(body)
        self._capture.over()


def _is_mirrored(share: int, method: str, fields: Fields) -> bool:
    """Return whether a request is one of the share, and safe to be sent to other code."""
    if method not in SAFE or random.randrange(OF) >= share:  # noqa: S311 - a sample
        return False
    return CREDENTIALS.isdisjoint(name.lower() for name, _ in fields)


def decoded(fields: Any) -> Fields:
    """Return the fields of a head, as text."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)


def _final(data: bytes) -> bytes:
    """Return an answer without interim ones, such as `100 Continue`."""
    while data[9:10] == b"1" and b"\r\n\r\n" in data:
        data = data.partition(b"\r\n\r\n")[2]
    return data


def _parsed(data: bytes) -> "tuple[str, Fields, bytes]":
    """Return the first line, the fields and the body of a message.

    >>> _parsed(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n2\\r\\nab\\r\\n0\\r\\n\\r\\n")
    ('GET / HTTP/1.1', (('Host', 'x'), ('Transfer-Encoding', 'chunked')), b'ab')
    """
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    fields = tuple((name, value.strip()) for name, _, value in pairs)
    if any(n.lower() == "transfer-encoding" and "chunked" in v.lower() for n, v in fields):
        body = _without_chunks(body)
    return first, fields, body


def _without_chunks(data: bytes) -> bytes:
    """Return the content of the chunks (RFC 9112, 7.1), up to the first bytes that are not a chunk."""
    content, at = bytearray(), 0
    while (chunk := _CHUNK.match(data, at)) is not None and (size := int(chunk[1], 16)):
        content += data[chunk.end() : chunk.end() + size]
        at = chunk.end() + size + 2
    return bytes(content)


def _send(token: str, record: Captured) -> None:
    global _sender  # noqa: PLW0603 - one thread for the container, begun when it is needed
    with _begun:
        if _sender is None:
            _sender = threading.Thread(target=_send_all, name="homeport capture", daemon=True)
            _sender.start()
    try:
        _queue.put_nowait((token, record))
    except queue.Full:
        _say("more requests come than the server takes")


def _send_all() -> None:
    while True:
        token, record = _queue.get()
        reach = context.reach()
        if reach is None or not reach.socket:
            continue
        request = wire.Request(
            "",
            codec.line(record),
            target=f"/v1/captures/{token}",
            content_type="application/json",
            fields={calls.KEY: reach.key},
        )
        try:
            answer = wire.ask(wire.address_of(reach.socket, reach.token), request)
        except (OSError, ValueError) as error:
            _say(str(error))
        else:
            if answer.status >= 300 and answer.status != 404:  # 404: it is over
                _say(f"the server answers {answer.status}")


def _say(why: str) -> None:
    print(f"a request is not captured: {why}", file=sys.stderr)  # noqa: T201 - the container's log
