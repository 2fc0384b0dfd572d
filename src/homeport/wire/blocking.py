"""Requests by a thread, on a connection that it keeps."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator

from homeport.contract import calls
from homeport.wire import address as addresses
from homeport.wire.address import Address, Remote
from homeport.wire.messages import LARGE_BYTES, Answer, CutOff, Frames, Request, Unreachable

LOOK_S = 0.25  # a waiting thread wakes this often, so that `InputCancellation` can be raised in it


class _ThreadConnection(threading.local):
    """A thread's idle connection, its address, and since when it is idle."""

    def __init__(self) -> None:
        self.connection: socket.socket | None = None
        self.address: Address = ""
        self.pid = 0
        self.since = 0.0


class _Socket(socket.socket):
    """A thread's connection, which ends with its thread."""

    def __del__(self) -> None:
        self.close()


_own = _ThreadConnection()


def ask(address: Address, request: Request) -> Answer:
    """Send a request and return the whole answer."""
    connection = _take(address)
    try:
        answer = _exchange(connection, request.head(address), request.body)
        while not answer.is_whole:
            _read(connection, answer)
    except BaseException:
        connection.close()
        raise
    _keep(address, connection, answer)
    return answer


def frames(address: Address, request: Request) -> "tuple[Answer, Iterator[tuple[bytes, bytes]]]":
    """Send a request; return the answer's head, and the frames of its body if it is a stream.

    An answer of another kind is whole, and has no frames. Close the iterator to end the call.
    """
    connection = _take(address)
    try:
        answer = _exchange(connection, request.head(address), request.body)
        while not answer.status or (answer.outcome != calls.STREAM and not answer.is_whole):
            _read(connection, answer)
    except BaseException:
        connection.close()
        raise
    if answer.outcome != calls.STREAM:
        _keep(address, connection, answer)
        return answer, iter(())
    return answer, _frames(address, connection, answer)


def _frames(
    address: Address, connection: socket.socket, answer: Answer
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
    _keep(address, connection, answer)


def _take(address: Address) -> socket.socket:
    """Return the thread's connection, or a new one."""
    connection, _own.connection = _own.connection, None
    if connection is not None:
        is_same = _own.address == address and _own.pid == os.getpid()
        idle_s = time.monotonic() - _own.since
        if is_same and idle_s < addresses.idle_s(address) and not _readable(connection):
            return connection
        connection.close()  # after a fork that is a copy, and the parent's stays open
    try:
        fresh = _connected(address)
    except OSError as error:
        raise Unreachable(error.errno, error.strerror or str(error), str(address)) from None
    fresh.settimeout(LOOK_S)
    return fresh


def _connected(address: Address) -> socket.socket:
    if isinstance(address, Remote):
        return _connected_to(address)
    fresh = _Socket(socket.AF_UNIX)
    try:
        fresh.connect(address)
    except BaseException:
        fresh.close()
        raise
    return fresh


def _connected_to(remote: Remote) -> socket.socket:
    plain = socket.create_connection((remote.host, remote.port), addresses.CONNECT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not remote.tls:
        return _Socket(fileno=plain.detach())
    try:
        wrapped: socket.socket = addresses.tls().wrap_socket(plain, server_hostname=remote.host)
    except BaseException:
        plain.close()
        raise
    return wrapped


def _keep(address: Address, connection: socket.socket, answer: Answer) -> None:
    if answer.keeps_alive and _own.connection is None:
        _own.connection, _own.address = connection, address
        _own.pid, _own.since = os.getpid(), time.monotonic()
    else:
        connection.close()


def _readable(connection: socket.socket) -> bool:
    """Return whether an idle connection can be read, which means that the other side has closed it."""
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))


def _exchange(connection: socket.socket, head: bytes, body: bytes) -> Answer:
    """Send the request; return the part of the answer that has arrived with it."""
    answer = Answer()
    try:
        if len(body) <= LARGE_BYTES:
            _send(connection, head + body)
        else:
            _send(connection, head)
            _send(connection, body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before all of it was sent; the answer says why
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
