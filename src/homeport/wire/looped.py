"""Requests on an event loop, on as many connections as there are requests at once."""

import asyncio
import socket
import weakref
from collections.abc import AsyncIterator

from homeport.contract import calls
from homeport.contract.sizes import MIB
from homeport.wire import address as addresses
from homeport.wire.address import Address
from homeport.wire.messages import LARGE_BYTES, Answer, CutOff, Frames, Request, Unreachable

MAX_WAITING_BYTES = 4 * MIB  # of a stream that is not read as fast as it arrives


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
            self.close()  # bytes without a request
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

    async def ask(self, address: Address, request: Request) -> Answer:
        """Return the answer: whole, or the head of a stream."""
        assert self.transport is not None
        answer = self.answer = Answer()
        self._streams, self._error = False, None
        if len(request.body) <= LARGE_BYTES:
            self.transport.write(request.head(address) + request.body)
        else:
            self.transport.write(request.head(address))
            await self._send(request.body)
        while not (answer.is_whole or answer.outcome == calls.STREAM):
            self._check()
            await self._wait()
        return answer

    async def parts(self) -> "list[bytes]":
        """Return the parts of a stream that have arrived; none at its end."""
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
                return  # refused before all of it was sent
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


FULL_PAUSE_S = 0.02  # until the next try to connect to a full queue
#: The other side accepts a limited number of connections, and an idle one takes a place.
IDLE_MOST = 100

#: loop -> address -> connections that are idle, the latest last
_idle: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address, list[_Wire]]]"
_idle = weakref.WeakKeyDictionary()


async def ask_async(address: Address, request: Request) -> Answer:
    """Send a request and return the whole answer."""
    wire = await _connected(address)
    try:
        answer = await wire.ask(address, request)
        if answer.outcome == calls.STREAM:
            raise ValueError("the answer is a stream")
    except BaseException:
        wire.close()
        raise
    _release(address, wire, answer)
    return answer


async def frames_async(
    address: Address, request: Request
) -> "tuple[Answer, AsyncIterator[tuple[bytes, bytes]]]":
    """Send a request; return the answer's head, and the frames of its body if it is a stream.

    An answer of another kind is whole, and has no frames. Close the iterator to end the call.
    """
    wire = await _connected(address)
    try:
        answer = await wire.ask(address, request)
    except BaseException:
        wire.close()
        raise
    if answer.outcome != calls.STREAM:
        _release(address, wire, answer)
    return answer, _frames_async(address, wire, answer)


async def _frames_async(
    address: Address, wire: _Wire, answer: Answer
) -> "AsyncIterator[tuple[bytes, bytes]]":
    if answer.outcome != calls.STREAM:
        return
    reader = Frames()
    try:
        while parts := await wire.parts():
            for part in parts:
                for frame in reader.feed(part):
                    yield frame
    except BaseException:  # GeneratorExit, too
        wire.close()
        raise
    _release(address, wire, answer)


async def _connected(address: Address) -> _Wire:
    loop = asyncio.get_running_loop()
    idle = _idle.setdefault(loop, {}).setdefault(address, [])
    oldest = loop.time() - addresses.idle_s(address)
    while idle:
        wire = idle.pop()
        if not wire.is_closed and wire.idle_since > oldest:
            return wire
        wire.close()
    try:
        return await _opened(loop, address)
    except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - two classes in Python 3.10
        number, text = getattr(error, "errno", None), getattr(error, "strerror", None)
        raise Unreachable(number, text or str(error) or "timed out", str(address)) from None


async def _opened(loop: asyncio.AbstractEventLoop, address: Address) -> _Wire:
    if isinstance(address, str):
        connected = await _connected_unix(address)
        return (await loop.create_unix_connection(_Wire, sock=connected))[1]
    connecting = loop.create_connection(
        _Wire, address.host, address.port, ssl=addresses.tls() if address.tls else None
    )
    return (await asyncio.wait_for(connecting, addresses.CONNECT_S))[1]


async def _connected_unix(path: str) -> socket.socket:
    """Return a socket that is connected; wait while the other side's queue of new connections is full.

    The kernel then answers EAGAIN, which asyncio takes for a connection that is being made (unix(7)).
    """
    fresh = socket.socket(socket.AF_UNIX)
    try:
        fresh.setblocking(False)
        while True:
            try:
                fresh.connect(path)
            except BlockingIOError:
                await asyncio.sleep(FULL_PAUSE_S)
            else:
                return fresh
    except BaseException:
        fresh.close()
        raise


def close_idle(loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections that a loop keeps, before it ends."""
    for wires in _idle.pop(loop, {}).values():
        for wire in wires:
            wire.close()


def _release(address: Address, wire: _Wire, answer: Answer) -> None:
    if not answer.keeps_alive or wire.is_closed:
        wire.close()
        return
    loop = asyncio.get_running_loop()
    wire.answer, wire.idle_since = None, loop.time()
    idle = _idle.setdefault(loop, {}).setdefault(address, [])
    idle.append(wire)
    if len(idle) > IDLE_MOST:
        idle.pop(0).close()


def _size(parts: "list[bytes]") -> int:
    return sum(map(len, parts))
