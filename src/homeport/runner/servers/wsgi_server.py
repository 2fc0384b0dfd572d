"""Cheroot's server, changed for a container: it starts threads when they are needed, and is faster.

These changes save most of a request's time: files of the socket in C instead of Python, threads that wait for
connections themselves (wsgi_threads.py), a date that is made once a second, and one send for the head and the body.
"""

import email.utils
import errno
import io
import logging
import math
import socket
import sys
import time
from typing import Any

from cheroot.server import HTTPConnection, HTTPServer

from homeport.contract.sizes import DOOR_BACKLOG
from homeport.runner.servers import bodies, wsgi_request
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.wsgi_gateway import Aborted, Gateway, Site
from homeport.runner.servers.wsgi_threads import Connections, Threads
from homeport.sdk.tracebacks import users_traceback

# Longer than HAProxy keeps an idle connection, so that no request arrives on one that is being closed.
KEEP_ALIVE_S = 3600
_Base: Any = HTTPServer  # which has no annotations


def make(serving: Serving, site: Site) -> Any:
    """Return a cheroot server at the container's door; call `prepare` and `serve`."""
    server = Server(serving, site)
    server.server_name = "localhost"
    server.timeout = KEEP_ALIVE_S
    server.request_queue_size = DOOR_BACKLOG
    # cheroot would count the chunks' framing too; see wsgi_gateway.py.
    server.max_request_body_size = 0
    server.shutdown_timeout = math.ceil(serving.order.exit_grace_s)
    return server


class Request(wsgi_request.Request):
    """Uses a date that is made once a second."""

    has_begun = False  # True once the response has begun

    def send_headers(self) -> None:
        if self.server.door.is_short:
            self.close_connection = True  # no descriptor is left for another connection
        if not any(name.lower() == b"date" for name, _ in self.outheaders):
            self.outheaders.append((b"Date", _date.now()))
        super().send_headers()  # it first reads the part of the body that the app has not read
        self.has_begun = True


class Connection(HTTPConnection):
    """Uses files in C."""

    RequestHandlerClass = Request

    def __init__(self, server: Any, sock: socket.socket, _makefile: Any = None) -> None:
        super().__init__(server, sock, _file)


class Server(_Base):  # type: ignore[misc]
    """Listens on the door; does not log visitors that disconnect; has no limit of idle connections."""

    ConnectionClass = Connection

    def __init__(self, serving: Serving, site: Site) -> None:
        most = serving.order.function.max_inputs
        super().__init__("the door", Gateway, minthreads=1, maxthreads=most)
        self.requests = Threads(self, most, lambda: self._connections)
        self.site = site
        self.door = serving.door
        self._serving = serving
        self._connections: Connections

    def bind_unix_socket(self, _address: Any) -> None:
        """Use the door, which listens already."""
        self.socket = self.door

    def prepare(self) -> None:
        """Get ready to serve."""
        super().prepare()
        self.door.setblocking(False)
        self._connections.close()
        self._connections = Connections(self.door, self._connected, self.refused)
        self.requests.begin()

    def _connected(self, visitor: socket.socket) -> Connection:
        visitor.settimeout(self.timeout)
        return Connection(self, visitor)

    def refused(self, number: int) -> None:
        """Report to the node that no connection can be accepted now, by an errno; 0: connections are accepted."""
        if self._serving.pulse is not None:
            self._serving.pulse.refused(number)

    @property
    def can_add_keepalive_connection(self) -> bool:
        return bool(self.ready)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        error = sys.exc_info()[1]
        if level < logging.ERROR or isinstance(error, Aborted):
            return
        text = users_traceback(error, libraries=False) if error and traceback else msg
        print(text, file=sys.stderr)  # noqa: T201 - the container's log


class Incoming(socket.SocketIO):
    """The bytes that arrive on a connection."""

    waits_since = math.inf  # since when a thread has waited for them (monotonic)
    is_stalled = False  # True once the request was ended because the body did not arrive

    def readinto(self, buffer: Any) -> int | None:
        """Read the bytes that have arrived. An app must not take half of a body for the whole one."""
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
