"""The body of a call and the answer to it, in pickles or in JSON (contract/calls.py has the protocol)."""

import json
from collections.abc import Callable
from typing import Any

from homeport.contract import calls
from homeport.contract.sizes import MIB
from homeport.runner.servers.answer import Send
from homeport.sdk import values
from homeport.sdk.exception import InvalidError, SerializationError

PIECE_BYTES = MIB  # of a large value, sent with one wait for the reader
NO_LENGTH = -1

Receive = Callable[[], Any]


class CallerLeft(Exception):
    """Raised when the caller has left before all of its arguments arrived."""


class Reply:
    """The answer to one call, in pickles."""

    content_type = calls.PICKLE
    stream_type = calls.PICKLE

    def __init__(self, send: Send, python: str) -> None:
        self._send = send
        self._python = python

    def arguments(self, body: "bytes | bytearray") -> "tuple[Any, Any]":
        """Return the positional and the named arguments."""
        args, kwargs = values.loads(body, self._python)
        return args, kwargs

    def encode(self, value: Any) -> bytes:
        """Return the value as the body of an answer."""
        return values.dumps(value)

    def encode_error(self, error: BaseException) -> bytes:
        """Return an exception as the body of an answer."""
        return values.failed(error).encode()

    async def fail(self, error: BaseException) -> None:
        """Answer with an exception."""
        await self.whole(calls.FAILED, self.encode_error(error))

    async def over(self, status: int) -> None:
        """Answer without a value."""
        await self._send({"type": "http.response.start", "status": status, "headers": []})
        await self._send({"type": "http.response.body", "body": b""})

    async def begin(self) -> None:
        """Begin a stream."""
        await self._start(calls.STREAM, self.stream_type, NO_LENGTH)

    async def item(self, value: Any) -> None:
        """Send one value of the stream."""
        await self._part(calls.frame(calls.ITEM, self.encode(value)))

    async def end(self, error: "BaseException | None") -> None:
        """End the stream, perhaps with an exception."""
        if error is None:
            last = calls.frame(calls.END, b"")
        else:
            last = calls.frame(calls.ERROR, self.encode_error(error))
        await self._part(last, more=False)

    async def whole(self, outcome: str, data: bytes) -> None:
        """Answer with a body that is complete."""
        await self._start(outcome, self.content_type, len(data))
        if len(data) <= PIECE_BYTES:
            await self._part(data, more=False)
            return
        view = memoryview(data)
        for at in range(0, len(data), PIECE_BYTES):
            await self._part(bytes(view[at : at + PIECE_BYTES]), more=at + PIECE_BYTES < len(data))

    async def _start(self, outcome: str, content_type: str, length: int) -> None:
        headers = [
            (b"content-type", content_type.encode()),
            (b"x-homeport-outcome", outcome.encode()),
            (b"x-homeport-python", values.PYTHON.encode()),
        ]
        if length != NO_LENGTH:
            headers.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class JsonReply(Reply):
    """The answer in JSON. A stream is one JSON object a line: `{"value": …}`, and `{"error": …}` if it fails."""

    content_type = calls.JSON
    stream_type = "application/x-ndjson"

    def arguments(self, body: "bytes | bytearray") -> "tuple[Any, Any]":
        """Return the positional and the named arguments."""
        try:
            data = json.loads(body or b"{}")
        except ValueError as error:
            raise InvalidError(f"the body is not JSON: {error}") from None
        unknown = set(data) - {"args", "kwargs"} if isinstance(data, dict) else {"…"}
        args, kwargs = ([], {}) if unknown else (data.get("args", []), data.get("kwargs", {}))
        if unknown or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise InvalidError('a call in JSON is {"args": [], "kwargs": {}}')
        return args, kwargs

    def encode(self, value: Any) -> bytes:
        """Return the value as JSON."""
        try:
            return json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(f"the result cannot be sent as JSON: {error}") from None

    def encode_error(self, error: BaseException) -> bytes:
        """Return an exception as JSON."""
        return json.dumps({"error": values.failed(error).described()}).encode()

    async def item(self, value: Any) -> None:
        """Send one value of the stream."""
        await self._part(b'{"value": ' + self.encode(value) + b"}\n")

    async def end(self, error: "BaseException | None") -> None:
        """End the stream, perhaps with an exception."""
        await self._part(b"" if error is None else self.encode_error(error) + b"\n", more=False)


def of(fields: "dict[bytes, str]", send: Send) -> Reply:
    """Return the answer to a call, in the format of its arguments."""
    kind = fields.get(b"content-type", "").partition(";")[0].strip().lower()
    python = fields.get(b"x-homeport-python", "")
    return (JsonReply if kind == calls.JSON else Reply)(send, python)


async def body(receive: Receive) -> "bytes | bytearray":
    """Return the whole body of the request."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerLeft
    if not message.get("more_body"):
        return message.get("body", b"")  # type: ignore[no-any-return]
    whole = bytearray(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        whole += message.get("body", b"")
    return whole
