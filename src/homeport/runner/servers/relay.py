"""Relays bytes, unchanged, between the container's door and a `web_server`'s program.

So the program has the same slots, deadlines and door as every other web function. The ingress sends one
request on each connection, and visitors do not share connections.
"""

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

from homeport.contract.sizes import KIB, MAX_BODY_BYTES
from homeport.runner.servers import bodies
from homeport.runner.servers.bodies import Rest
from homeport.runner.servers.head import FIELD, without_method
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.slots import Slots, Stay

MAX_BYTES = MAX_BODY_BYTES + 64 * KIB  # a body, and the head before it
HERE = "127.0.0.1"
REFUSED_S = 2.0  # how long to retry a refused connection: the program may listen again soon
PAUSE_S = 0.05
GONE_S = 0.5  # how long requests may take to end when their program has ended
# No program has seen the request (RFC 8470, 5.2), so the ingress sends it to another container.
TRY_ELSEWHERE = "425 Too Early"


class Relay:
    """All connections between the door and one program."""

    def __init__(self, port: int, serving: Serving, listens: Callable[[], bool]) -> None:
        self.port = port
        self.listens = listens  # returns whether a process listens on the port
        self.gone = asyncio.Event()  # set when no process listens any more
        self.slots = serving.slots
        self._serving = serving
        self._inside: set[Visit] = set()
        self._is_used_up = False  # True if a single-use container has taken its one request
        self._quiet = asyncio.Event()  # set while no request is inside
        self._quiet.set()
        serving.turns.add(self._look)

    def visit(self, capture: str = "") -> "Visit":
        """Return the protocol of a new connection at the door; `capture` is as in `Head`."""
        return Visit(self, capture)

    async def close(self) -> None:
        """Wait for the requests inside unless they must be cut; if the program has ended, not for long."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended(), GONE_S if self.gone.is_set() else None)

    async def _ended(self) -> None:
        waits = [
            asyncio.ensure_future(event.wait()) for event in (self._quiet, self._serving.ending.cut)
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        for visit in list(self._inside):
            visit.cut()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for visit in list(self._inside):
            visit.end_if_stalled(now)

    def give_up(self) -> None:
        """End the container, because the program has ended."""
        self._serving.door.shut()
        self.gone.set()

    def came(self, visit: "Visit") -> None:
        """Note that a request has begun."""
        self._inside.add(visit)
        self._quiet.clear()

    def takes(self) -> bool:
        """Return whether the program may get the request that begins now."""
        if not self._serving.order.function.single_use:
            return True
        if self._is_used_up:
            return False
        self._is_used_up = True
        self._serving.door.shut()
        self._serving.held.begin()  # until the end, so that no other request is sent here
        self._serving.ending.finish()
        return True

    def left(self, visit: "Visit") -> None:
        """Note that a request has ended."""
        self._inside.discard(visit)
        if not self._inside:
            self._quiet.set()


class Side(asyncio.Protocol):
    """One end of a relayed connection; bytes that arrive here are sent at the other end."""

    other: "Side | None" = None
    transport: Any = None  # asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send the bytes at the other end."""
        assert self.other is not None
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        """No more bytes arrive here: signal that to the other end, which may continue to send."""
        if self.other is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Pause the other end, which sends faster than this end reads."""
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other end read again."""
        if self.other is not None:
            with contextlib.suppress(RuntimeError):
                self.other.transport.resume_reading()


class Visit(Side, Stay):
    """The visitor's end, by way of the ingress: one request, which holds a slot."""

    other: "Program | None" = None
    _passed_bytes = 0
    _has_begun = False  # a part of the request has come
    _body: "Rest | None" = None  # the request's body, if it did not arrive together with the head
    _ended = False

    def __init__(self, relay: Relay, capture: str = "") -> None:
        self._relay = relay
        self._slots: Slots = relay.slots
        self._connecting: asyncio.Task[None] | None = None
        self._early = b""  # bytes that arrived before the program was connected
        self.capture: Any = None  # captured.Raw
        if capture:
            self._begin_capture(capture)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A request comes, or HAProxy's check of the container, which is a connection without bytes."""
        super().connection_made(transport)
        self._relay.came(self)

    def data_received(self, data: bytes) -> None:
        """Pass on a part of the request."""
        if not self._has_begun:
            self._has_begun = True
            if FIELD in data and (end := data.find(b"\r\n\r\n")) >= 0:
                _, capture, data = without_method(data, end)
                if capture:
                    self._begin_capture(capture)
            if not self._relay.takes():
                self._refuse(TRY_ELSEWHERE, "this container has taken its one request")
                return
            if Rest.follows(data):
                self._body = Rest()
            self._slots.enter(self)
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        if self.other is None:  # keep one part; read no more before the program is connected
            self._early += data
            self.transport.pause_reading()
            return
        if self._body is not None:
            self._body.arrived(data, asyncio.get_running_loop().time())
        super().data_received(data)
        if self.capture is not None:
            self.capture.received(data)
        self._passed_bytes += len(data)
        if self._passed_bytes > MAX_BYTES:
            self._refuse("413 Content Too Large", "the body is larger than 4 GiB")

    def eof_received(self) -> bool:
        """The visitor sends no more: the request is complete, or the visitor has left."""
        self._ended = True
        if not self._has_begun or _is_closed(self.transport):
            self.transport.abort()
            return False
        return super().eof_received()

    def connection_lost(self, _error: Exception | None) -> None:
        """The visitor has the whole response, or has left."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self.other is not None:
            self.other.transport.abort()
        self._slots.leave(self)
        self._relay.left(self)
        if self.capture is not None:
            self.capture.over()

    def expire(self) -> None:
        """End the request, because its deadline has passed."""
        seconds = f"{self._slots.timeout_s:g} s"
        _say(f"a request took longer than its timeout of {seconds}")
        self._refuse("504 Gateway Timeout", f"the function took longer than {seconds}")

    def reads_again(self) -> None:
        """Read again, because the program takes the request's bytes again."""
        if self._body is not None:
            self._body.reads_again(asyncio.get_running_loop().time())

    def continue_was_sent(self) -> None:
        """Note that the program has asked for the body."""
        if self._body is not None:
            self._body.continue_was_sent(asyncio.get_running_loop().time())

    def end_if_stalled(self, now: float) -> None:
        """End the request if its body does not arrive, unless the program has begun to answer."""
        program = self.other
        if program is None or program.has_answered:
            return
        if self._body is None or not self._body.is_stalled(now):
            return
        if self.transport.is_reading() and not self.transport.is_closing():
            _say(bodies.why())
            self._refuse("408 Request Timeout", bodies.why())

    def cut(self) -> None:
        """End the request at once."""
        self.transport.abort()

    def program_left(self) -> None:
        """Close this end when the program has closed its own: answer 502, or send the rest of the program's answer."""
        if not self.other or not self.other.has_answered:
            _say(
                f"the program on port {self._relay.port} has closed a connection without an answer"
            )
            self._refuse("502 Bad Gateway", "the program closed the connection without an answer")
        else:
            self.transport.close()

    def _begin_capture(self, order: str) -> None:
        from homeport.runner.servers.captured import Raw

        self.capture = Raw(order)

    async def _connect(self) -> None:
        if not self.is_seated:
            await self._slots.turn(self)
        loop = asyncio.get_running_loop()
        program = Program(self)
        deadline = loop.time() + REFUSED_S
        while True:
            try:
                await loop.create_connection(
                    lambda: program, HERE, self._relay.port, family=socket.AF_INET
                )
            except OSError as error:
                if not self._relay.listens():
                    self._relay.give_up()
                    self._refuse(TRY_ELSEWHERE, "the program has ended")
                    return
                if loop.time() < deadline:
                    await asyncio.sleep(PAUSE_S)
                    continue
                _say(f"port {self._relay.port} does not take a connection: {error.strerror}")
                self._refuse("502 Bad Gateway", "the program does not take the request")
            else:
                self.other = program
                early, self._early = self._early, b""
                if early:
                    # First, because the program may take so little that `pause_writing` is called.
                    self.transport.resume_reading()
                    self.data_received(early)
                if self._ended:
                    program.transport.write_eof()
            return

    def _refuse(self, status: str, text: str) -> None:
        """Answer instead of the program; if the program's answer has begun, end the connection."""
        transport = self.transport
        if self.other is not None and self.other.has_answered:
            transport.abort()
            self._slots.cut()
            return
        body = f"homeport: {text}\n".encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        if not transport.is_closing():
            transport.write(head.encode() + body)
            transport.close()
        if self.other is not None:
            self.other.transport.abort()


class Program(Side):
    """The program's end."""

    has_answered = False  # True once a part of its answer has arrived, `100 Continue` aside

    def __init__(self, visit: Visit) -> None:
        self.other = self._visit = visit

    def data_received(self, data: bytes) -> None:
        """Pass on a part of the answer."""
        if not self.has_answered:
            self.has_answered = not bodies.asks(data)
            if not self.has_answered:
                self._visit.continue_was_sent()
        super().data_received(data)
        if self._visit.capture is not None:
            self._visit.capture.sent(data)

    def resume_writing(self) -> None:
        """The program takes the request's bytes again."""
        super().resume_writing()
        self._visit.reads_again()

    def eof_received(self) -> bool:
        """The program sends no more: its answer is complete, if there was one."""
        if not self.has_answered:
            self._visit.program_left()
            return False
        return super().eof_received()

    def connection_lost(self, _error: Exception | None) -> None:
        """The program has closed the connection."""
        if not self._visit.transport.is_closing():
            self._visit.program_left()


def _is_closed(transport: Any) -> bool:
    """Return whether the other side has closed, and not only stopped sending (man 2 poll, POLLHUP)."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), 0)  # poll reports POLLHUP without being asked for it
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the container's log
