"""HTTP over the socket `calls`, for whoever calls: in a container, in a script, and in the control plane.

    ask(path, request)             one request and its whole answer; blocks
    await ask_async(path, request) the same on an event loop
    frames(…), frames_async(…)     the frames of a stream, as they arrive

Connections are kept alive: one for each thread, and as many for a loop as there were requests at once. A call that
is cut off by an exception, Ctrl-C or a cancelled task closes its connection, and the container cancels the call.
Standard library only, because it runs beside the user's code. It knows nothing of pickles.
"""

import asyncio
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from homeport.contract import calls

READ_BYTES = 256 * 1024
LARGE_BYTES = (
    1024**2
)  # bodies above this are sent apart from their head, and received into one buffer
IDLE_S = 20.0  # HAProxy closes a connection that is idle for 30 s
LOOK_S = 0.25  # a thread that waits looks that often whether an exception was raised in it (InputCancellation)
MAX_HEAD_BYTES = 64 * 1024
MAX_WAITING_BYTES = 4 * 1024**2  # of a stream that is not read as fast as it arrives
BODILESS = (204, 304)


class Unreachable(ConnectionError):
    """Nobody listens on the socket: the request was not sent."""


class CutOff(ConnectionError):
    """The connection ended before the whole answer came; the call may have run."""


@dataclass(frozen=True)
class Request:
    """One request."""

    endpoint: str  # calls.endpoint_id; empty: for the control plane (`target` says what)
    body: bytes
    content_type: str = calls.PICKLE
    query: str = ""  # class parameters, canonical: contract/parameters.py
    fields: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    target: str = "/"

    def head(self) -> bytes:
        """Return the request's head; `ValueError` for a value that would end a line."""
        target = f"{self.target}?{self.query}" if self.query else self.target
        lines = [f"{self.method} {target} HTTP/1.1", "Host: calls"]
        if self.endpoint:
            lines.append(f"{calls.CALL}: {self.endpoint}")
        lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a field of a request holds the end of a line")
        return f"{text}\r\n\r\n".encode("latin-1")


class Answer:
    """The answer to a request, read piece by piece: `feed` it until `is_whole`."""

    def __init__(self) -> None:
        self.status = 0  # 0: the head is not complete
        self.fields: dict[str, str] = {}  # by name in lower case
        self.is_whole = False
        self.parts: list[bytes] = []  # of the body, as they came; a stream's reader takes them out
        self._rest = b""  # what has come and is not parsed
        self._left = 0  # bytes of the body, or of the chunk, that have not come
        self._chunked = False
        self._buffer: memoryview | None = None  # for a large body
        self._large = bytearray()

    @property
    def body(self) -> "bytes | bytearray":
        """The whole body."""
        return self._large if self._buffer is not None else b"".join(self.parts)

    @property
    def outcome(self) -> str:
        """What the container says that the body is; empty: the container did not answer the call."""
        return self.fields.get("x-homeport-outcome", "") if self.status == 200 else ""

    @property
    def keeps_alive(self) -> bool:
        """True if the connection may be used again."""
        return self.is_whole and self.fields.get("connection", "").lower() != "close"

    @property
    def wants_bytes(self) -> int:
        """How many bytes are worth reading at once."""
        return min(max(self._left, READ_BYTES), 16 * LARGE_BYTES)

    def feed(self, data: bytes) -> None:
        """Parse what has come; `ValueError` if it is not HTTP."""
        if not self.status:
            data = self._rest + data
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                if len(data) > MAX_HEAD_BYTES:
                    raise ValueError("the head of an answer is too large")
                self._rest = data
                return
            self._rest = b""
            self._read_head(head)
            if self.status < 200:  # 100 Continue
                self.status = 0
                self.feed(rest)
                return
            data = rest
        if self._chunked:
            self._read_chunks(data)
        elif not self.is_whole:
            self._read_body(data)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1.") or not first[9:12].isdigit():
            raise ValueError(f"this is not HTTP: {first[:40]!r}")
        self.status = int(first[9:12])
        self.fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        if self.status < 200:
            return
        self._chunked = self.fields.get("transfer-encoding", "").lower() == "chunked"
        if self._chunked:
            return
        self._left = int(self.fields.get("content-length", "0"))
        if self.status in BODILESS or not self._left:
            self.is_whole = True
        elif self._left > LARGE_BYTES:
            self._large = bytearray(self._left)
            self._buffer = memoryview(self._large)

    def _read_body(self, data: bytes) -> None:
        if len(data) > self._left:
            raise ValueError("an answer is longer than it says")
        if self._buffer is not None:
            at = len(self._large) - self._left
            self._buffer[at : at + len(data)] = data
        elif data:
            self.parts.append(data)
        self._left -= len(data)
        self.is_whole = not self._left

    def _read_chunks(self, data: bytes) -> None:
        """Parse chunks (RFC 9112, 7.1); trailers are dropped."""
        data = self._rest + data
        at = 0
        while not self.is_whole:
            if self._left > 2:
                part = data[at : at + self._left - 2]
                if part:
                    self.parts.append(part)
                self._left -= len(part)
                at += len(part)
            if self._left:  # what is left is the end of the chunk's last line
                if len(data) - at < self._left or self._left > 2:
                    break
                at += self._left
                self._left = 0
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            size = int(data[at:end].partition(b";")[0], 16)
            if size:
                at = end + 2
                self._left = size + 2
            elif (last := data.find(b"\r\n\r\n", end)) >= 0:  # no trailers: the two are the same
                self.is_whole = True
                at = last + 4
            else:
                break
        self._rest = data[at:]


class Frames:
    """Takes a stream's bytes apart into frames (contract/calls.py)."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> "list[tuple[bytes, bytes]]":
        """Return the frames that are complete now: their kind and their body."""
        self._data += data
        found = []
        at = 0
        while len(self._data) - at >= calls.FRAME_HEAD_BYTES:
            end = at + calls.FRAME_HEAD_BYTES + int.from_bytes(self._data[at : at + 4], "big")
            if len(self._data) < end:
                break
            kind = bytes(self._data[at + 4 : at + 5])
            found.append((kind, bytes(self._data[at + calls.FRAME_HEAD_BYTES : end])))
            at = end
        del self._data[:at]
        return found


# blocking


class _Kept(threading.local):
    """The connection that a thread keeps, where it leads, and since when it is idle."""

    def __init__(self) -> None:
        self.connection: socket.socket | None = None
        self.path = ""
        self.pid = 0
        self.since = 0.0


_kept = _Kept()


def ask(path: str, request: Request) -> Answer:
    """Send a request to the socket and return the whole answer."""
    connection = _take(path)
    try:
        answer = _exchange(connection, request)
        while not answer.is_whole:
            _read(connection, answer)
    except BaseException:
        connection.close()
        raise
    _keep(path, connection, answer)
    return answer


def frames(path: str, request: Request) -> "tuple[Answer, Iterator[tuple[bytes, bytes]]]":
    """Send a request; return the answer's head, and the frames of its body if it is a stream.

    An answer of another kind is whole, and has no frames. Close the iterator to end the call.
    """
    connection = _take(path)
    try:
        answer = _exchange(connection, request)
        while not answer.status or (answer.outcome != calls.STREAM and not answer.is_whole):
            _read(connection, answer)
    except BaseException:
        connection.close()
        raise
    if answer.outcome != calls.STREAM:
        _keep(path, connection, answer)
        return answer, iter(())
    return answer, _frames(path, connection, answer)


def _frames(
    path: str, connection: socket.socket, answer: Answer
) -> "Iterator[tuple[bytes, bytes]]":
    reader = Frames()
    try:
        while True:
            parts, answer.parts = answer.parts, []
            for part in parts:
                yield from reader.feed(part)
            if answer.is_whole:
                break
            _read(connection, answer)
    except BaseException:  # GeneratorExit, too
        connection.close()
        raise
    _keep(path, connection, answer)


def _take(path: str) -> socket.socket:
    """Return the thread's connection, or a new one."""
    connection, _kept.connection = _kept.connection, None
    if connection is not None:
        mine = _kept.path == path and _kept.pid == os.getpid()
        if mine and time.monotonic() - _kept.since < IDLE_S and not _readable(connection):
            return connection
        connection.close()  # after a fork that is a copy, and the parent's stays open
    fresh = socket.socket(socket.AF_UNIX)
    try:
        fresh.connect(path)
    except BaseException as error:
        fresh.close()
        if isinstance(error, OSError):
            raise Unreachable(error.errno, error.strerror, path) from None
        raise
    fresh.settimeout(LOOK_S)
    return fresh


def _keep(path: str, connection: socket.socket, answer: Answer) -> None:
    if answer.keeps_alive and _kept.connection is None:
        _kept.connection, _kept.path = connection, path
        _kept.pid, _kept.since = os.getpid(), time.monotonic()
    else:
        connection.close()


def _readable(connection: socket.socket) -> bool:
    """Return whether an idle connection has something to read, which is its end."""
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))


def _exchange(connection: socket.socket, request: Request) -> Answer:
    """Send the request; return the answer as far as it came with it."""
    answer = Answer()
    head = request.head()
    try:
        if len(request.body) <= LARGE_BYTES:
            _send(connection, head + request.body)
        else:
            _send(connection, head)
            _send(connection, request.body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was refused before it was whole, and the answer says why
    return answer


def _send(connection: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[connection.send(view) :]
        except TimeoutError:
            continue


def _read(connection: socket.socket, answer: Answer) -> None:
    while True:
        try:
            data = connection.recv(answer.wants_bytes)
            break
        except TimeoutError:
            continue
        except ConnectionResetError:
            data = b""
            break
    if not data:
        raise CutOff("the connection ended before the answer was whole")
    answer.feed(data)


# on an event loop


class _Wire(asyncio.Protocol):
    """One connection: one request after the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.is_closed = False
        self.answer: Answer | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_full = False
        self._error: Exception | None = None
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            self.close()  # nobody asked
            return
        try:
            answer.feed(data)
        except ValueError as error:
            self._error = error
            self.close()
        if self._streams and not answer.is_whole and _size(answer.parts) > MAX_WAITING_BYTES:
            assert self.transport is not None
            self.transport.pause_reading()
        if self._streams or answer.is_whole or answer.outcome == calls.STREAM:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self.is_closed = True
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def close(self) -> None:
        self.is_closed = True
        if self.transport is not None:
            self.transport.abort()

    async def ask(self, request: Request) -> Answer:
        """Return the answer: whole, or the head of a stream."""
        assert self.transport is not None
        answer = self.answer = Answer()
        self._streams, self._error = False, None
        if len(request.body) <= LARGE_BYTES:
            self.transport.write(request.head() + request.body)
        else:
            self.transport.write(request.head())
            await self._send(request.body)
        while not (answer.is_whole or answer.outcome == calls.STREAM):
            self._check()
            await self._wait()
        return answer

    async def parts(self) -> "list[bytes]":
        """Return the parts of a stream that have come; none: it is whole."""
        answer = self.answer
        assert answer is not None
        assert self.transport is not None
        self._streams = True
        while not answer.parts:
            if answer.is_whole:
                return []
            self._check()
            self.transport.resume_reading()
            await self._wait()
        parts, answer.parts = answer.parts, []
        return parts

    async def _send(self, body: bytes) -> None:
        assert self.transport is not None
        view = memoryview(body)
        for at in range(0, len(view), LARGE_BYTES):
            if self.is_closed:
                return  # it was refused before it was whole
            self.transport.write(view[at : at + LARGE_BYTES])
            if self._is_full:
                self._writable = asyncio.get_running_loop().create_future()
                await self._writable

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self.is_closed:
            raise CutOff("the connection ended before the answer was whole")

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


#: loop -> path -> connections that are idle, the latest last
_idle: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, list[_Wire]]]"
_idle = weakref.WeakKeyDictionary()


async def ask_async(path: str, request: Request) -> Answer:
    """Send a request to the socket and return the whole answer."""
    wire = await _connected(path)
    try:
        answer = await wire.ask(request)
        if answer.outcome == calls.STREAM:
            raise ValueError("the answer is a stream")
    except BaseException:
        wire.close()
        raise
    _release(path, wire, answer)
    return answer


async def frames_async(
    path: str, request: Request
) -> "tuple[Answer, AsyncIterator[tuple[bytes, bytes]]]":
    """Send a request; return the answer's head, and the frames of its body if it is a stream.

    An answer of another kind is whole, and has no frames. Close the iterator to end the call.
    """
    wire = await _connected(path)
    try:
        answer = await wire.ask(request)
    except BaseException:
        wire.close()
        raise
    if answer.outcome != calls.STREAM:
        _release(path, wire, answer)
    return answer, _frames_async(path, wire, answer)


async def _frames_async(
    path: str, wire: _Wire, answer: Answer
) -> "AsyncIterator[tuple[bytes, bytes]]":
    if answer.outcome != calls.STREAM:
        return
    reader = Frames()
    try:
        while parts := await wire.parts():
            for part in parts:
                for found in reader.feed(part):
                    yield found
    except BaseException:  # GeneratorExit, too
        wire.close()
        raise
    _release(path, wire, answer)


async def _connected(path: str) -> _Wire:
    loop = asyncio.get_running_loop()
    idle = _idle.setdefault(loop, {}).setdefault(path, [])
    oldest = loop.time() - IDLE_S
    while idle:
        wire = idle.pop()
        if not wire.is_closed and wire.idle_since > oldest:
            return wire
        wire.close()
    try:
        _, fresh = await loop.create_unix_connection(_Wire, path)
    except OSError as error:
        raise Unreachable(error.errno, error.strerror, path) from None
    return fresh


def close_idle(loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections that a loop keeps, before it ends."""
    for wires in _idle.pop(loop, {}).values():
        for wire in wires:
            wire.close()


def _release(path: str, wire: _Wire, answer: Answer) -> None:
    if not answer.keeps_alive or wire.is_closed:
        wire.close()
        return
    loop = asyncio.get_running_loop()
    wire.answer, wire.idle_since = None, loop.time()
    _idle.setdefault(loop, {}).setdefault(path, []).append(wire)


def _size(parts: "list[bytes]") -> int:
    return sum(map(len, parts))
