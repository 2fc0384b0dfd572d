"""The app server for WSGI: cheroot at the container's door, one thread per slot.

Flask-Sock and its kind do WebSockets on the connection's socket, which they look for in `environ`
under the names that Werkzeug's and gunicorn's servers gave it.
"""

import asyncio
import contextlib
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from homeport.contract.manifest import FunctionSpec
from homeport.runner.door import Door
from homeport.runner.servers import wsgi_inside, wsgi_server
from homeport.runner.servers.admission import USED_UP
from homeport.runner.servers.ending import Ending
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.websocket import MAX_MESSAGE_BYTES
from homeport.runner.servers.wsgi_inside import Inside
from homeport.runner.servers.wsgi_server import Aborted
from homeport.sdk import context
from homeport.sdk.tracebacks import users_traceback

MAX_BODY_BYTES = 4 * 1024**3
METHOD = "HTTP_X_HOMEPORT_METHOD"
SOCKET = "werkzeug.socket"
ERROR = b"Internal Server Error"
TOO_LARGE = b"homeport: the body is larger than 4 GiB"


async def serve(apps: dict[str, Any], begun: Serving) -> None:
    """Answer requests until asked to end, then finish those in flight."""
    ending = begun.ending
    for app in apps.values():
        _limit_messages(app)
    loop = asyncio.get_running_loop()
    inside = wsgi_inside.Inside(begun)
    once = Once(begun.order.function, begun.door, loop, ending)
    server = wsgi_server.make(begun, _gateway(apps, inside, once))
    server.prepare()
    begun.ready()
    serving = _in_thread(loop, server.serve)
    watching = asyncio.create_task(inside.watch(server.requests))
    asked: asyncio.Future[Any] = asyncio.create_task(ending.asked.wait())
    await asyncio.wait([asked, serving], return_when=asyncio.FIRST_COMPLETED)
    stopping = _in_thread(loop, server.stop)
    cut: asyncio.Future[Any] = asyncio.create_task(ending.cut.wait())
    await asyncio.wait([stopping, cut], return_when=asyncio.FIRST_COMPLETED)
    for task in (asked, cut, watching):
        task.cancel()


class Once:
    """A single-use container's one request; its threads may ask at once."""

    def __init__(
        self, function: FunctionSpec, door: Door, loop: asyncio.AbstractEventLoop, ending: Ending
    ) -> None:
        self.counts = function.single_use
        self._door = door
        self._loop, self._ending = loop, ending
        self._lock = threading.Lock()
        self._taken = False

    def refuses(self) -> bool:
        """Whether another request has been taken; else this one is."""
        if not self.counts:
            return False
        with self._lock:
            taken, self._taken = self._taken, True
        if not taken:
            self._door.shut()
        return taken

    def end(self) -> None:
        """It has been answered."""
        self._loop.call_soon_threadsafe(self._ending.finish)


def _gateway(apps: dict[str, Any], inside: Inside, once: "Once") -> type:
    from cheroot.wsgi import Gateway_10

    only = next(iter(apps.values())) if len(apps) == 1 else None

    class Gateway(Gateway_10):
        """One request: who asks, for what, and the socket if it is to be a WebSocket."""

        _body: "_Counted | None" = None

        def respond(self) -> None:
            environ = self.env
            if once.refuses():
                self._give_up(b"503 Service Unavailable", USED_UP.encode())
                return
            if once.counts:
                self.req.close_connection = True
            environ.update(_seen_from_outside(environ), RAW_URI=environ["REQUEST_URI"])
            context.input_id.set(environ.get("HTTP_X_REQUEST_ID"))
            app = only or apps[unquote(environ.pop(METHOD))]
            if self.req.chunked_read:
                # Cheroot leaves the body's last CRLF unread, and would hold a thread for it.
                self.req.close_connection = True
                environ["wsgi.input"] = self._body = _Counted(environ["wsgi.input"])
            socket_copy = _offer_socket(environ, self.req.conn.socket)
            self._one = one = inside.enter(self.req, environ.get("HTTP_X_REQUEST_ID"))
            if once.counts:
                inside.use_up(one)
            try:
                self._run(app)
            except ConnectionError:
                raise
            except BodyTooLarge:
                self._give_up(b"413 Content Too Large", TOO_LARGE)
            except BaseException as error:
                # A late one has been answered. An app that has spoken WebSocket says so in gunicorn's way.
                if not one.is_late and (
                    not isinstance(error, StopIteration) or socket_copy is None
                ):
                    _log(environ, error)
                    self._give_up(b"500 Internal Server Error", ERROR)
            finally:
                inside.leave(one)
                if socket_copy is not None:
                    socket_copy.close()
                if once.counts:
                    once.end()

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
            """The last bytes are in the writer: they go when the app has nothing more to do."""
            out = self.req.conn.wfile
            try:
                if close is not None:
                    if inside.is_slow:
                        self._end_body()
                        inside.hold(self._one)
                        out.flush()
                        self._part()
                    began = self._one.closing_since = time.monotonic()
                    close()
                    inside.closed_in(time.monotonic() - began)
            finally:
                self._one.closing_since = math.inf
                out.held = False
                if once.counts:
                    inside.hold(self._one)  # it is: this waits until nobody is sent here
                if not self._one.is_late:
                    out.flush()

        def _part(self) -> None:
            """The visitor has the response, and this thread goes on: the connection is of no more use."""
            self.req.close_connection = True
            with contextlib.suppress(OSError):
                self.req.conn.socket.shutdown(socket.SHUT_RDWR)

        def _end_body(self) -> None:
            """What cheroot writes after the app's `close`."""
            if self.req.chunked_write and self.req.sent_headers:
                self.req.conn.wfile.write(b"0\r\n\r\n")
                self.req.chunked_write = False

        def write(self, chunk: bytes) -> None:
            if _was_taken(self.env):  # an HTTP response would be noise in a WebSocket
                return
            out = self.req.conn.wfile
            out.held = True  # the head goes with the first of the body, the last waits for the app
            super().write(chunk)
            if (left := self.remaining_bytes_out) is not None:
                left = self.remaining_bytes_out = left - len(chunk)
            if left != 0:
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

    return Gateway


def _in_thread(
    loop: asyncio.AbstractEventLoop, work: Callable[[], object]
) -> "asyncio.Future[None]":
    """Run in a thread that does not hold up the process's end."""
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell)

    threading.Thread(target=run, name=f"homeport {work.__name__}", daemon=True).start()
    return done


class BodyTooLarge(OSError):
    """A body without a length went on for more than 4 GiB."""


class _Counted:
    """A body without a length, up to its limit (PEP 3333, input streams)."""

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


class _Socket(socket.socket):
    """A copy of the connection's socket that knows whether it was used."""

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


def _seen_from_outside(environ: dict[str, Any]) -> dict[str, str]:
    """What the visitor sees: HAProxy says it, and removes what a visitor says of it."""
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", "http")
    name, _, port = environ.get("HTTP_HOST", "localhost").rpartition(":")
    if not port.isdigit():
        name, port = environ.get("HTTP_HOST", "localhost"), ""
    environ.pop("REMOTE_PORT", None)
    return {
        "REMOTE_ADDR": environ.get("HTTP_X_FORWARDED_FOR", ""),
        "wsgi.url_scheme": scheme,
        "SERVER_NAME": name,
        "SERVER_PORT": port or ("443" if scheme == "https" else "80"),
    }


def _limit_messages(app: Any) -> None:
    """Flask-Sock reads its limits from the Flask app's config."""
    config = getattr(app, "config", None)
    if isinstance(config, dict):
        options = config.setdefault("SOCK_SERVER_OPTIONS", {})
        options.setdefault("max_message_size", MAX_MESSAGE_BYTES)


def _log(environ: dict[str, Any], error: BaseException) -> None:
    what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    print(f"{what} failed\n{users_traceback(error, libraries=False)}", file=sys.stderr)  # noqa: T201 - the container's log
