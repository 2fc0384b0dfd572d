"""Uvicorn's WebSocket protocol, by the library that the user's packages have; logs handshakes that fail."""

import contextlib
import contextvars
import functools
import importlib
import sys
from typing import Any

from homeport.contract.sizes import MIB
from homeport.runner.servers.admission import CONNECTION
from homeport.sdk import context

MAX_MESSAGE_BYTES = 2 * MIB  # a longer message closes the WebSocket with 1009
#: Uvicorn's protocol classes, the best first; the installed versions decide which ones can be imported.
IMPLEMENTATIONS = (
    ("websockets_sansio_impl", "WebSocketsSansIOProtocol"),  # since uvicorn 0.35
    ("auto", "AutoWebSocketsProtocol"),
    ("websockets_impl", "WebSocketProtocol"),
    ("wsproto_impl", "WSProtocol"),
)
#: A little above HAProxy's limits, which are 32 KiB for the head and 256 fields.
LIMITS = {"MAX_LINE_LENGTH": 64 * 1024, "MAX_NUM_HEADERS": 300}
TOO_LARGE = ("SecurityError", "RequestLineTooLong", "HeaderLineTooLong", "TooManyHeaders")
REFUSAL = "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{text}"


@functools.cache
def protocol() -> Any:
    """Return a protocol class for uvicorn; None if the user's packages have no library for WebSockets."""
    base = _implementation()
    if base is None:
        return None
    _raise_limits()
    return type("Protocol", (Informs, base), {})


_Base: Any = object  # the attributes are those of uvicorn's class, which differ with the library


class Informs(_Base):  # type: ignore[misc]
    """A mix-in before uvicorn's class: gives admission the connection, and answers heads that cannot be read."""

    visit: Any = None

    async def run_asgi(self) -> None:
        """Run the app."""
        self.scope[CONNECTION] = self
        await super().run_asgi()

    def connection_lost(self, exc: Exception | None) -> None:
        """The visitor has left, or the app has closed the connection."""
        super().connection_lost(exc)
        if self.visit is not None:
            self.visit.hang_up()

    def handle_connect(self, event: Any) -> None:
        """Log a handshake that fails."""
        super().handle_connect(event)
        if getattr(self, "response", None) is not None and self.response.status_code != 101:
            _say(event, f"failed: {self.conn.handshake_exc}", self.response.status_code)

    def handle_events(self) -> None:
        """Answer a handshake that the library cannot read."""
        super().handle_events()
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self._refuse(self.conn.handshake_exc)

    def handle_parser_exception(self) -> None:
        """Answer bytes that the protocol does not allow."""
        if self.handshake_initiated:
            super().handle_parser_exception()
        else:
            self._refuse(self.conn.parser_exc)

    def _refuse(self, error: Any) -> None:
        """Answer a head that the library cannot read; uvicorn would send no answer."""
        is_large = {type(error).__name__, type(error.__cause__).__name__} & {*TOO_LARGE}
        status, phrase = (
            (431, "Request Header Fields Too Large") if is_large else (400, "Bad Request")
        )
        why = error.__cause__ or error
        _say(None, f"failed: {why}", status)
        text = f"homeport: the WebSocket's head cannot be read: {why}\n"
        response = REFUSAL.format(status=status, phrase=phrase, length=len(text), text=text)
        self.close_sent = self.handshake_complete = True
        self.transport.write(response.encode())
        self.transport.close()

    @property
    def is_answered(self) -> bool:
        """Return False: a WebSocket has no response that could be complete."""
        return False

    is_open_ended = False

    def cut(self, *, at_once: bool) -> None:
        """End the connection."""
        (self.transport.abort if at_once else self.transport.close)()


def _implementation() -> Any:
    for module, name in IMPLEMENTATIONS:
        with contextlib.suppress(ImportError, AttributeError):
            implementation = getattr(
                importlib.import_module(f"uvicorn.protocols.websockets.{module}"), name
            )
            if implementation is not None:
                return implementation
    return None


def _raise_limits() -> None:
    for name in ("websockets.http11", "websockets.legacy.http"):
        if module := sys.modules.get(name):
            for limit, least in LIMITS.items():
                setattr(module, limit, max(getattr(module, limit, 0), least))


def _say(request: Any, what: str, status: int) -> None:
    headers = getattr(request, "headers", {})
    path = getattr(request, "path", "").partition("?")[0]

    def say() -> None:
        context.input_id.set(headers.get("x-request-id"))
        print(f"WEBSOCKET {path} {what} ({status})", file=sys.stderr)  # noqa: T201 - the container's log

    contextvars.copy_context().run(say)
