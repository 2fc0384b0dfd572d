"""One WSGI request: calls the app, and sends its response through cheroot.

Flask-Sock and similar packages run WebSockets on the connection's socket. They look for it in `environ`
under the names that Werkzeug's and gunicorn's servers use.

Imports cheroot, so it is imported only where the user's packages have it (wsgi.py).
"""

import contextlib
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from cheroot.wsgi import Gateway_10

from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MAX_BODY_BYTES
from homeport.runner.servers.admission import USED_UP
from homeport.runner.servers.head import split
from homeport.runner.servers.wsgi_inside import Inside, Once
from homeport.runner.servers.wsgi_request import UNPREFIXED
from homeport.sdk import context
from homeport.sdk.tracebacks import users_traceback

METHOD = "HTTP_X_HOMEPORT_METHOD"
SOCKET = "werkzeug.socket"
ERROR = b"Internal Server Error"
TOO_LARGE = b"homeport: the body is larger than 4 GiB"


class Aborted(Exception):
    """Raised when a response that has begun cannot be finished: the server cuts the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The container's apps, and the requests inside it."""

    apps: dict[str, Any]
    inside: Inside
    once: Once

    def app(self, method: str) -> Any:
        """Return the app of the web method that the ingress chose."""
        if len(self.apps) == 1:
            return next(iter(self.apps.values()))
        return self.apps[method]


class Gateway(Gateway_10):
    """Answers one request."""

    _body: "_Counted | None" = None
    _capture: Any = None  # captured.Capture

    def __init__(self, req: Any) -> None:
        super().__init__(req)
        self._site: Site = req.server.site

    def get_environ(self) -> Any:
        """Return the request's `environ`."""
        request = self.req
        environ: dict[str, Any] = request.environ
        environ["wsgi.input"], environ["wsgi.errors"] = request.rfile, sys.stderr
        environ["wsgi.input_terminated"] = request.chunked_read
        _see_from_outside(environ)
        return environ

    def respond(self) -> None:
        environ = self.env
        if self._site.once.refuses():
            self._give_up(b"503 Service Unavailable", USED_UP.encode())
            return
        if self._site.once.counts:
            self.req.close_connection = True
        context.input_id.set(environ.get("HTTP_X_REQUEST_ID"))
        parent = environ.get("HTTP_TRACEPARENT")
        context.trace.set(parent and (parent, environ.get("HTTP_TRACESTATE", "")))
        method, capture = split(environ.pop(METHOD, ""))
        app = self._site.app(method)
        if capture:
            self._begin_capture(capture, environ)
        if self.req.chunked_read:
            # Cheroot does not read the body's last CRLF, and would keep a thread to wait for it.
            self.req.close_connection = True
            environ["wsgi.input"] = self._body = _Counted(environ["wsgi.input"])
        socket_copy = _offer_socket(environ, self.req.conn.socket)
        self._one = entered = self._site.inside.enter(self.req, environ.get("HTTP_X_REQUEST_ID"))
        if self._site.once.counts:
            self._site.inside.use_up(entered)
        try:
            self._run(app)
        except ConnectionError:
            raise
        except BodyTooLarge:
            self._give_up(b"413 Content Too Large", TOO_LARGE)
        except BaseException as error:
            # A late request was answered already. After a WebSocket an app raises StopIteration.
            if not entered.is_late and (
                not isinstance(error, StopIteration) or socket_copy is None
            ):
                _log(environ, error)
                self._give_up(b"500 Internal Server Error", ERROR)
        finally:
            if self._capture is not None:
                self._end_capture()
            self._site.inside.leave(entered)
            if socket_copy is not None:
                socket_copy.close()
            if self._site.once.counts:
                self._site.once.end()

    def _run(self, app: Any) -> None:
        response = app(self.env, self.start_response)
        try:
            # Whatever the app made of the exception, the answer is 413.
            if self._body is not None and self._body.exceeded:
                raise BodyTooLarge
            for chunk in response:
                if chunk:
                    self.write(chunk)
            if not _was_taken(self.env):
                self.req.conn.wfile.held = True
                self.req.ensure_headers_sent()
        finally:
            if _was_taken(self.env):
                self.req.sent_headers = self.req.close_connection = True
            self._finish(getattr(response, "close", None))

    def _finish(self, close: Any) -> None:
        """Send the last bytes, which are in the writer, when the app's `close` has returned."""
        out = self.req.conn.wfile
        try:
            if close is not None:
                if self._site.inside.is_slow:
                    self._end_body()
                    self._site.inside.hold(self._one)
                    out.flush()
                    self._part()
                began = self._one.closing_since = time.monotonic()
                close()
                self._site.inside.closed_in(time.monotonic() - began)
        finally:
            self._one.closing_since = math.inf
            out.held = False
            if self._site.once.counts:
                self._site.inside.hold(
                    self._one
                )  # held already: wait until no request is sent here
            if not self._one.is_late:
                out.flush()

    def _part(self) -> None:
        """Close the connection: the visitor has the response, and this thread stays busy."""
        self.req.close_connection = True
        with contextlib.suppress(OSError):
            self.req.conn.socket.shutdown(socket.SHUT_RDWR)

    def _end_body(self) -> None:
        """Write the last chunk, which cheroot would write after the app's `close`."""
        if self.req.chunked_write and self.req.sent_headers:
            self.req.conn.wfile.write(b"0\r\n\r\n")
            self.req.chunked_write = False

    def write(self, chunk: bytes) -> None:
        if _was_taken(self.env):  # an HTTP response would break the WebSocket
            return
        out = self.req.conn.wfile
        out.held = True  # send the head with the first chunk; the last chunk waits for the app
        super().write(chunk)
        if self._capture is not None:
            self._capture.sent(chunk)
        if (left_bytes := self.remaining_bytes_out) is not None:
            left_bytes = self.remaining_bytes_out = left_bytes - len(chunk)
        if left_bytes != 0:
            out.held = False
            out.flush()

    def _give_up(self, status: bytes, text: bytes) -> None:
        self.req.close_connection = True
        if self.req.sent_headers:
            raise Aborted
        self.req.status = status
        self.req.outheaders = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(text)),
        ]
        self.req.ensure_headers_sent()
        self.req.write(text)
        if self._capture is not None:
            self._capture.sent(text)

    def _begin_capture(self, order: str, environ: dict[str, Any]) -> None:
        from homeport.runner.servers.captured import Capture

        self._capture = Capture(order)
        names = (name for name in environ if name.startswith("HTTP_") or name in UNPREFIXED)
        fields = tuple(
            (name.removeprefix("HTTP_").replace("_", "-").lower(), environ[name]) for name in names
        )
        self._capture.came(environ["REQUEST_METHOD"], environ["RAW_URI"], fields)
        environ["wsgi.input"] = _Read(environ["wsgi.input"], self._capture.received)

    def _end_capture(self) -> None:
        status = bytes(self.req.status or b"")[:3]
        if status.isdigit():
            fields = tuple(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in self.req.outheaders
            )
            self._capture.answered(int(status), fields)
        self._capture.over()


class BodyTooLarge(OSError):
    """A body without a length was longer than 4 GiB."""


class _Counted:
    """Counts a body without a length; raises `BodyTooLarge` above the limit (PEP 3333, input streams)."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._seen_bytes = 0
        self.exceeded = False

    def read(self, size: int | None = -1) -> bytes:
        return self._count(self._stream.read(None if size is None or size < 0 else size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._count(self._stream.readline(None if size is None or size < 0 else size))

    def readlines(self, hint: int = -1) -> list[bytes]:  # noqa: ARG002 - a hint may be ignored
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _count(self, data: bytes) -> bytes:
        self._seen_bytes += len(data)
        if self._seen_bytes > MAX_BODY_BYTES:
            self.exceeded = True
            raise BodyTooLarge
        return data


class _Read(_Counted):
    """Counts the bytes of a body that the app reads."""

    def __init__(self, stream: Any, tell: Callable[[bytes], None]) -> None:
        super().__init__(stream)
        self._tell = tell

    def _count(self, data: bytes) -> bytes:
        self._tell(data)
        return super()._count(data)


class _Socket(socket.socket):
    """A copy of the connection's socket that records whether it was used."""

    taken = False

    def send(self, *args: Any) -> int:
        self.taken = True
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self.taken = True
        super().sendall(*args)


def _offer_socket(environ: dict[str, Any], connection: socket.socket) -> _Socket | None:
    if environ.get("HTTP_UPGRADE", "").lower() != "websocket":
        return None
    copy = _Socket(connection.family, connection.type, fileno=os.dup(connection.fileno()))
    copy.settimeout(None)
    environ[SOCKET] = environ["gunicorn.socket"] = copy
    return copy


def _was_taken(environ: dict[str, Any]) -> bool:
    return SOCKET in environ and environ[SOCKET].taken


def _see_from_outside(environ: dict[str, Any]) -> None:
    """Write the visitor's view of the URL, from HAProxy's fields; HAProxy replaces a visitor's own."""
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", "http")
    host = environ.get("HTTP_HOST", "localhost")
    name, _, port = host.rpartition(":")
    if not port.isdigit():
        name, port = host, ""
    environ["REMOTE_ADDR"] = environ.get("HTTP_X_FORWARDED_FOR", "")
    environ["wsgi.url_scheme"] = scheme
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or ("443" if scheme == "https" else "80")


def _log(environ: dict[str, Any], error: BaseException) -> None:
    what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    print(f"{what} failed\n{users_traceback(error, libraries=False)}", file=sys.stderr)  # noqa: T201 - the container's log
