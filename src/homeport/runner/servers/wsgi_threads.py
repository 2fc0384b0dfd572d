"""The threads of a WSGI container, and the connections that they wait for.

Every free thread waits in one epoll for the door and for all idle connections. The kernel wakes one of them for
each request, and that thread answers it. Cheroot's own server has a thread that waits and a queue to the others, so a
request wakes two threads. An entry of the epoll is off from its event until the thread puts the connection back
(man 2 epoll_ctl, EPOLLONESHOT), so no two threads have the same connection.

Imports cheroot, so it is imported only where the user's packages have it (wsgi.py).
"""

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from cheroot.workers import threadpool

from homeport.runner.door import Door
from homeport.runner.servers.loop import FULL, PAUSE_S

ONCE = select.EPOLLIN | select.EPOLLONESHOT
AT_END = 64  # connections that a free thread looks at when the server ends
_workers: Any = threadpool  # which has no annotations
_Pool: Any = _workers.ThreadPool


class Connections:
    """The door and the idle connections, in place of cheroot's `ConnectionManager`."""

    def __init__(
        self, door: Door, connected: Callable[[socket.socket], Any], refused: Callable[[int], None]
    ) -> None:
        """`connected` makes a connection of a socket; `refused` gets the errno of the last `accept`, or 0."""
        self._door, self._connected, self._refused = door, connected, refused
        self._idle: dict[int, Any] = {}  # by the descriptor
        self._epoll = select.epoll()
        # A pipe and not an Event: it wakes the threads in the epoll.
        self._end, self._wakes = os.pipe2(os.O_CLOEXEC)
        self._epoll.register(self._end, select.EPOLLIN)
        self._epoll.register(door.fileno(), ONCE)
        self._door_number = door.fileno()
        self._ended = threading.Event()

    def next(self) -> Any:
        """Wait for the next connection with a request, and return it; None when the server ends."""
        while True:
            (number, _), *others = self._epoll.poll(-1, 1)
            if number == self._end:
                others = self._epoll.poll(0, AT_END)
                number = next((other for other, _ in others if other != self._end), -1)
                if number < 0:
                    return None
            connection = self._accept() if number == self._door_number else self._take(number)
            if connection is not None:
                return connection

    def put(self, connection: Any) -> None:
        """Wait for the next request of a connection."""
        number = connection.socket.fileno()
        self._idle[number] = connection
        try:
            self._epoll.modify(number, ONCE)
        except FileNotFoundError:  # its first request was read when it was accepted
            self._epoll.register(number, ONCE)

    def run(self, _expiration_interval: float) -> None:
        """Wait until the server ends; HAProxy closes connections that are idle."""
        self._ended.wait()

    def stop(self) -> None:
        """Let each free thread end."""
        os.write(self._wakes, b".")  # stays there, so it wakes all of them
        self._ended.set()

    def close(self) -> None:
        """Close all idle connections. The epoll stays open, because threads may look at it."""
        for number in list(self._idle):
            if (connection := self._take(number)) is not None:
                connection.close()

    def _take(self, number: int) -> Any:
        return self._idle.pop(number, None)

    def _accept(self) -> Any:
        """Accept a connection, if there is one; handle a door that is shut, or that lacks descriptors."""
        try:
            visitor, _ = self._door.accept()
        except OSError as error:
            if error.errno == errno.EINVAL or self._door.fileno() < 0:
                return None  # the door is shut and its queue is empty: its entry stays off
            if error.errno in FULL:
                self._refused(error.errno)
                time.sleep(PAUSE_S)
            self._watch_door()
            return None
        self._refused(errno.EMFILE if self._door.is_short else 0)
        self._watch_door()
        return self._connected(visitor)

    def _watch_door(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed, because the server ends
            self._epoll.modify(self._door_number, ONCE)


class Threads(_Pool):  # type: ignore[misc]
    """Starts with one thread, and starts another when all threads are busy."""

    def __init__(self, server: Any, most: int, connections: Callable[[], Connections]) -> None:
        super().__init__(server, 1, most)
        self._connections = connections
        self._replaced: set[threading.Thread] = set()  # threads that hang and were replaced
        self._lock = threading.Lock()
        self._busy = 0  # threads with a request
        self._mine = threading.local()
        self.get = self._get

    def start(self) -> None:
        """Wait for `begin`: cheroot calls this before there are `Connections`."""

    def begin(self) -> None:
        """Start the first thread."""
        self._threads.append(self._spawn_worker())

    def replace(self, thread: threading.Thread) -> None:
        """Start another thread instead of one that hangs."""
        with self._lock:
            self._replaced.add(thread)
            self._busy -= 1
            self._threads.remove(thread)
            self._spawn()

    def is_replaced(self, thread: threading.Thread) -> bool:
        """Return whether the thread was replaced and still hangs."""
        return thread in self._replaced

    def _spawn(self) -> None:
        if self._busy >= len(self._threads) and len(self._threads) < self.max:
            self._threads.append(self._spawn_worker())

    def _get(self) -> Any:
        """Return the calling thread's next connection, or what ends the thread."""
        if getattr(self._mine, "busy", False):
            with self._lock:
                if threading.current_thread() in self._replaced:
                    self._replaced.discard(threading.current_thread())
                    return _workers._SHUTDOWNREQUEST  # noqa: SLF001 - so that it ends
                self._busy -= 1
        self._mine.busy = False
        connection = self._connections().next()
        if connection is None:
            return _workers._SHUTDOWNREQUEST  # noqa: SLF001
        self._mine.busy = True
        with self._lock:
            self._busy += 1
            self._spawn()
        return connection
