"""Cheroot's server, changed for a container: it starts threads when they are needed, and is faster.

These changes save most of a request's time: files of the socket and a queue in C instead of Python, a date
that is made once a second, and one send for the head and the body.
"""

import email.utils
import errno
import io
import logging
import math
import queue
import selectors
import socket
import sys
import threading
import time
from typing import Any

from cheroot.connections import ConnectionManager
from cheroot.server import HTTPConnection, HTTPServer
from cheroot.workers import threadpool

from homeport.contract.sizes import DOOR_BACKLOG
from homeport.runner.door import Door
from homeport.runner.servers import bodies, wsgi_request
from homeport.runner.servers.loop import FULL, PAUSE_S
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.wsgi_gateway import Aborted, Gateway, Site
from homeport.sdk.tracebacks import users_traceback

# Longer than HAProxy keeps an idle connection, so that no request arrives on one that is being closed.
KEEP_ALIVE_S = 3600


_workers: Any = threadpool  # which has no annotations
_Base: Any = HTTPServer
_Pool: Any = _workers.ThreadPool
_Connections: Any = ConnectionManager


def make(begun: Serving, site: Site) -> Any:
    """Return a cheroot server at the container's door; call `prepare` and `serve`."""
    server = Server(begun, site)
    server.server_name = "localhost"
    server.timeout = KEEP_ALIVE_S
    server.request_queue_size = DOOR_BACKLOG
    server.max_request_body_size = (
        0  # cheroot would count the chunks' framing too; see wsgi_gateway.py
    )
    server.shutdown_timeout = math.ceil(begun.order.exit_grace_s)
    return server


class Request(wsgi_request.Request):
    """Uses a date that is made once a second."""

    has_begun = False  # True once the response has begun

    def send_headers(self) -> None:
        if self.server.door.is_short:
            self.close_connection = True  # no descriptor is left for another connection
        if not any(name.lower() == b"date" for name, _ in self.outheaders):
            self.outheaders.append((b"Date", _date.now()))
        super().send_headers()  # reads what the app has left of the body first
        self.has_begun = True


class Connection(HTTPConnection):
    """Uses files in C."""

    RequestHandlerClass = Request

    def __init__(self, server: Any, sock: socket.socket, _makefile: Any = None) -> None:
        super().__init__(server, sock, _file)


class Threads(_Pool):  # type: ignore[misc]
    """Starts with one thread, and starts another when all threads are busy."""

    def __init__(self, server: Any, most: int) -> None:
        super().__init__(server, 1, most)
        self._replaced: set[threading.Thread] = set()  # threads that hang and were replaced
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0  # connections with an unanswered request
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
        """Start another thread instead of one that hangs."""
        with self._lock:
            self._replaced.add(thread)
            self._unfinished -= 1
            self._threads.remove(thread)
            self._spawn()

    def is_replaced(self, thread: threading.Thread) -> bool:
        """Return whether the thread was replaced and still hangs."""
        return thread in self._replaced

    def _get(self) -> Any:
        if getattr(self._mine, "busy", False):
            with self._lock:
                if threading.current_thread() in self._replaced:
                    self._replaced.discard(threading.current_thread())
                    return _workers._SHUTDOWNREQUEST  # noqa: SLF001 - so that it ends
                self._unfinished -= 1
        self._mine.busy = False
        connection = self._queue.get()
        self._mine.busy = True
        return connection


class Connections(_Connections):  # type: ignore[misc]
    """Waits for visitors and idle connections without a timer; ends at once when it is asked to.

    Cheroot's own looks twice a second whether it has to end, or a connection is too old. HAProxy closes
    connections that are idle.
    """

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self._alarm, self._wakes = socket.socketpair()
        self._selector.register(self._wakes.fileno(), selectors.EVENT_READ, data=self._wakes)

    def stop(self) -> None:
        """Wake the thread that serves, and wait until it has stopped."""
        self._stop_requested = True
        self._alarm.send(b".")  # not by closing it: a child of the user's code may have a copy
        super().stop()

    def close(self) -> None:
        """Close all idle connections."""
        self._alarm.close()
        super().close()  # closes `_wakes` too

    def _run(self, _expiration_interval: float) -> None:
        while not self._stop_requested:
            for descriptor, source in self._selector.select():
                if source is self._wakes:
                    continue
                if source is self.server:
                    connection = self._from_server_socket(self.server.socket)
                else:
                    connection = source
                    self._selector.unregister(descriptor)  # until a thread has answered its request
                if connection is not None:
                    self.server.process_conn(connection)

    def _from_server_socket(self, door: Door) -> Any:
        """Accept a connection, if there is one; handle a door that is shut, or that lacks descriptors."""
        try:
            connection = super()._from_server_socket(door)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the door is shut, and its queue is empty
                self._selector.unregister(door.fileno())
            elif error.errno in FULL:
                self.server.refused(error.errno)
                time.sleep(PAUSE_S)
            return None
        self.server.refused(errno.EMFILE if door.is_short else 0)
        return connection


class Server(_Base):  # type: ignore[misc]
    """Listens on the door; does not log visitors that disconnect; has no limit of idle connections."""

    ConnectionClass = Connection

    def __init__(self, begun: Serving, site: Site) -> None:
        most = begun.order.function.max_inputs
        super().__init__("the door", Gateway, minthreads=1, maxthreads=most)
        self.requests = Threads(self, most)
        self.site = site
        self.door = begun.door
        self._begun = begun
        self._connections: Connections

    def bind_unix_socket(self, _address: Any) -> None:
        """Use the door, which listens already."""
        self.socket = self.door

    def prepare(self) -> None:
        """Get ready to serve."""
        super().prepare()
        self.door.setblocking(False)
        self._connections.close()
        self._connections = Connections(self)

    def refused(self, number: int) -> None:
        """Tell the node that no connection can be accepted now, by an errno; 0: connections are accepted."""
        if self._begun.pulse is not None:
            self._begun.pulse.refused(number)

    @property
    def can_add_keepalive_connection(self) -> bool:
        return bool(self.ready)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        error = sys.exc_info()[1]
        if level < logging.ERROR or isinstance(error, Aborted):
            return
        told = users_traceback(error, libraries=False) if error and traceback else msg
        print(told, file=sys.stderr)  # noqa: T201 - the container's log


class Incoming(socket.SocketIO):
    """The bytes that arrive on a connection."""

    waits_since = math.inf  # since when a thread has waited for them (monotonic)
    is_stalled = False  # True once the request was ended because the body did not arrive

    def readinto(self, buffer: Any) -> int | None:
        """Read what has arrived. An app must not take half of a body for the whole one."""
        self.waits_since = time.monotonic()
        count = super().readinto(buffer)
        self.waits_since = math.inf
        if not count and self.is_stalled:
            raise ConnectionResetError(errno.ECONNRESET, bodies.why())
        return count


class Reader(io.BufferedReader):
    """Reads the connection."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self.incoming = Incoming(sock, "r")
        super().__init__(self.incoming, size)
        self.bytes_read = 0

    def has_data(self) -> bool:
        """Return False: HAProxy sends a request only after the answer to the one before."""
        return False


class Writer(io.BufferedWriter):
    """Writes to the connection at once, unless `held` is set: then it waits for the next write."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        super().__init__(socket.SocketIO(sock, "w"), size)
        self.bytes_written = 0
        self.held = False

    def write(self, data: Any) -> int:
        """Write all of the data."""
        count = super().write(data)
        if not self.held:
            self.flush()
        return count


def _file(sock: socket.socket, mode: str = "r", size: int = io.DEFAULT_BUFFER_SIZE) -> Any:
    return Reader(sock, size) if "r" in mode else Writer(sock, size)


class _Date:
    """The current time as an HTTP date (RFC 9110, 5.6.7), made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """Return the date; threads that make it at the same time make the same."""
        second = int(time.time())
        if second != self._second:
            self._text = email.utils.formatdate(second, usegmt=True).encode()
            self._second = second
        return self._text


_date = _Date()
