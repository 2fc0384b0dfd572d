"""Cheroot as a container needs it: a thread as soon as there is work for it, and less work for each.

What costs most in a request is Python that has a twin in C (files of the socket, the queue), a date that
changes once a second, and a send for the head and another for the body.
"""

import email.utils
import errno
import io
import logging
import math
import queue
import socket
import sys
import threading
import time
from typing import Any

from homeport.runner.servers.loop import FULL, PAUSE_S
from homeport.runner.servers.serving import Serving
from homeport.sdk.tracebacks import users_traceback

BACKLOG = 1024
# Longer than HAProxy keeps an idle connection: a reused one must never race a close.
KEEP_ALIVE_S = 3600


class Aborted(Exception):
    """The response has begun and cannot be finished: the server cuts the connection."""


def make(begun: Serving, gateway: type) -> Any:
    """A cheroot server at the container's door, ready to be prepared."""
    most, door = begun.order.function.max_inputs, begun.door

    from cheroot.server import HTTPConnection, HTTPServer
    from cheroot.workers import threadpool

    from homeport.runner.servers import wsgi_request

    class Request(wsgi_request.Request):
        """With a date that was made once in this second."""

        def send_headers(self) -> None:
            if door.is_short:
                self.close_connection = True  # there is no descriptor for another visitor
            if not any(name.lower() == b"date" for name, _ in self.outheaders):
                self.outheaders.append((b"Date", _date.now()))
            super().send_headers()

    class Connection(HTTPConnection):
        """With files in C."""

        RequestHandlerClass = Request

        def __init__(self, server: Any, sock: socket.socket, _makefile: Any = None) -> None:
            super().__init__(server, sock, _file)

    base: Any = HTTPServer

    class Server(base):  # type: ignore[misc]
        """Quiet about visitors who go away; HAProxy says how many connections there are."""

        ConnectionClass = Connection

        def bind_unix_socket(self, _address: Any) -> None:
            """The door listens already."""
            self.socket = door

        def prepare(self) -> None:
            """Ready to serve, and to bear a door that is shut or cannot let anybody in."""
            super().prepare()
            enter = self._connections._from_server_socket  # noqa: SLF001

            def guarded(listening: Any) -> Any:
                try:
                    connection = enter(listening)
                except OSError as error:
                    if error.errno == errno.EINVAL:  # it is shut, and nobody is left in its queue
                        self._connections._selector.unregister(listening.fileno())  # noqa: SLF001
                    elif error.errno in FULL:
                        if begun.pulse is not None:
                            begun.pulse.refused(error.errno)
                        time.sleep(PAUSE_S)
                    return None
                if begun.pulse is not None:
                    begun.pulse.refused(errno.EMFILE if door.is_short else 0)
                return connection

            self._connections._from_server_socket = guarded  # noqa: SLF001

        @property
        def can_add_keepalive_connection(self) -> bool:
            return bool(self.ready)

        def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
            error = sys.exc_info()[1]
            if level < logging.ERROR or isinstance(error, Aborted):
                return
            told = users_traceback(error, libraries=False) if error and traceback else msg
            print(told, file=sys.stderr)  # noqa: T201 - the container's log

    workers: Any = threadpool  # which has no annotations
    pool: Any = workers.ThreadPool

    class Threads(pool):  # type: ignore[misc]
        """Begins with one, and waits for none: each other begins when all before it are busy."""

        def __init__(self, server: Any, most: int) -> None:
            super().__init__(server, 1, most)
            self._replaced: set[threading.Thread] = set()  # each hangs, and another does its work
            self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._lock = threading.Lock()
            self._unfinished = 0  # connections with a request that nobody has answered yet
            self._mine = threading.local()
            self.get = self._get

        def put(self, obj: Any) -> None:
            with self._lock:
                self._unfinished += 1
                self._spawn()
            self._queue.put(obj)

        def _spawn(self) -> None:
            if self._unfinished > len(self._threads) and len(self._threads) < self.max:
                self._threads.append(self._spawn_worker())

        def grow(self, amount: int) -> None:
            self._threads += [self._spawn_worker() for _ in range(amount)]

        def replace(self, thread: threading.Thread) -> None:
            """The thread hangs: let there be another."""
            with self._lock:
                self._replaced.add(thread)
                self._unfinished -= 1
                self._threads.remove(thread)
                self._spawn()

        def is_replaced(self, thread: threading.Thread) -> bool:
            """Whether it still hangs."""
            return thread in self._replaced

        def _get(self) -> Any:
            if getattr(self._mine, "busy", False):
                with self._lock:
                    if threading.current_thread() in self._replaced:
                        self._replaced.discard(threading.current_thread())
                        return workers._SHUTDOWNREQUEST  # noqa: SLF001 - so that it ends
                    self._unfinished -= 1
            self._mine.busy = False
            connection = self._queue.get()
            self._mine.busy = True
            return connection

    server = Server("the door", gateway, minthreads=1, maxthreads=most)
    server.requests = Threads(server, most)
    server.server_name = "localhost"
    server.timeout = KEEP_ALIVE_S
    server.request_queue_size = BACKLOG
    server.max_request_body_size = 0  # it would count the chunks' framing too; see wsgi.py
    server.shutdown_timeout = math.ceil(begun.order.exit_grace_s)
    return server


class Reader(io.BufferedReader):
    """What comes in."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        super().__init__(socket.SocketIO(sock, "r"), size)
        self.bytes_read = 0

    def has_data(self) -> bool:
        """HAProxy sends a request only when the one before has been answered."""
        return False


class Writer(io.BufferedWriter):
    """What goes out: at once, unless it is held for what follows."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        super().__init__(socket.SocketIO(sock, "w"), size)
        self.bytes_written = 0
        self.held = False

    def write(self, data: Any) -> int:
        """All of it."""
        count = super().write(data)
        if not self.held:
            self.flush()
        return count


def _file(sock: socket.socket, mode: str = "r", size: int = io.DEFAULT_BUFFER_SIZE) -> Any:
    return Reader(sock, size) if "r" in mode else Writer(sock, size)


class _Date:
    """RFC 9110, 5.6.7: as an HTTP date has it."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """Threads that make it at once make the same."""
        second = int(time.time())
        if second != self._second:
            self._text = email.utils.formatdate(second, usegmt=True).encode()
            self._second = second
        return self._text


_date = _Date()
