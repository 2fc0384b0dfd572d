"""The app server for ASGI: uvicorn's protocols, listening on the container's door."""

import asyncio
import collections
import email.utils
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from homeport.runner.servers import library_log, websocket
from homeport.runner.servers.admission import CONNECTION
from homeport.runner.servers.loop import Entrance
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.visit import Visit

if TYPE_CHECKING:
    from homeport.runner.servers.gate import Gate

NOWHERE: "collections.deque[tuple[bytes, bytes]]" = collections.deque(maxlen=0)
UNSUPPORTED = (b"upgrade", b"http2-settings")  # fields of upgrades that are ignored


class Boundless:
    """A content length without bound, for a response that ends with its connection."""

    def __lt__(self, _other: object) -> bool:
        return False

    def __isub__(self, _other: object) -> "Boundless":  # noqa: PYI034 - Self is 3.11
        return self

    def __ne__(self, _other: object) -> bool:
        return False

    def __eq__(self, _other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Protocol(HttpToolsProtocol):
    """Uvicorn's, with a head that is fixed once it is complete, and without timers of its own."""

    visit: "Visit | None" = None  # the latest request
    body_parts = 0  # how many parts of bodies have arrived
    takes_only_one = False  # True if no descriptor is left for another connection: loop.Entrance

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._to_websocket:
                self.handle_websocket_upgrade()
            else:
                self._ignore_upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            text = "Invalid HTTP request received."
            self.logger.warning(text)
            self.send_400_response(text)

    def on_headers_complete(self) -> None:
        upgrades = self.parser.should_upgrade()
        if upgrades:
            self.ws_protocol_class = websocket.protocol()
        self._to_websocket = upgrades and super()._should_upgrade()
        if upgrades and not self._to_websocket:
            return  # the parser stops here; `_ignore_upgrade` parses again
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        if int(time.time()) != self.server_state.second:  # type: ignore[attr-defined]
            _keep_date(self.server_state, self.config)
        super().on_headers_complete()
        # The parser reports trailers like headers, and uvicorn would add them to this list. Drop them
        # (RFC 9110, 6.5.1: only a recipient that knows the field may merge it).
        self.headers = NOWHERE  # type: ignore[assignment]
        if self.takes_only_one and not self._to_websocket:
            self.cycle.keep_alive = False
        if self.scope["http_version"] == "1.0" and not self._to_websocket:
            # No chunks for HTTP/1.0 (RFC 9112, 7.1): the response ends with its connection.
            self.cycle.chunked_encoding = False
            self.cycle.expected_content_length = Boundless()  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if not self.parser.should_upgrade():
            self.body_parts += 1
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        cycle = self.cycle
        cycle.more_body = False  # also after the answer, because `Visit` reads it
        if not cycle.response_complete:
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        # HAProxy sends one request after the other, and closes idle connections itself.
        self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.visit is not None:
            self.visit.hang_up()

    @property
    def is_answered(self) -> bool:
        """True if the last request on this connection has been answered completely."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_open_ended(self) -> bool:
        """True if the request was answered before it has arrived completely."""
        return self.cycle is not None and self.cycle.more_body

    def cut(self, *, at_once: bool) -> None:
        """End a connection whose response cannot be finished; sent bytes still arrive unless `at_once`."""
        self.cycle.disconnected = True  # so that uvicorn does not report an incomplete response
        (self.transport.abort if at_once else self.transport.close)()

    def _should_upgrade(self) -> bool:
        return bool(self._to_websocket)

    def _ignore_upgrade(self, following: bytes) -> None:
        """Parse the request again without the upgrade's fields: after them the parser expects no HTTP.

        RFC 9110, 7.8: a server may ignore an upgrade, and answers as if it were not there.
        """
        head = [self.parser.get_method(), b" ", self.url]
        head += [b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name not in UNSUPPORTED:
                head += [name, b": ", value, b"\r\n"]
        self.parser = HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n", following]))


class Server(uvicorn.Server):
    """Uvicorn's server, on the container's door, ended by an event."""

    def __init__(self, config: uvicorn.Config, serving: Serving, gate: "Gate | None") -> None:
        super().__init__(config)
        self._serving = serving
        self._gate = gate

    async def answer(self) -> None:
        """Answer requests until asked to end, then finish those in flight."""
        loop = asyncio.get_running_loop()
        config, state = self.config, self.server_state
        config.load()
        self.lifespan = config.lifespan_class(config)
        _keep_date(state, config)

        def protocol() -> Protocol:
            return Protocol(config, state, {}, _loop=loop)

        gate = self._gate
        factory = protocol if gate is None else gate.factory(protocol)
        entrance = Entrance(self._serving.door, factory, self._serving.pulse)
        self.servers = [entrance]  # type: ignore[list-item]
        self._serving.ready()
        await self._serving.ending.requested.wait()
        cutting = loop.create_task(self._cut())
        if gate is not None:
            entrance.close()
            await gate.settle()
        await self.shutdown()
        cutting.cancel()

    async def _cut(self) -> None:
        await self._serving.ending.cut.wait()
        self.force_exit = True
        for task in list(self.server_state.tasks):
            task.cancel()


async def asgi(app: Any, serving: Serving, gate: "Gate | None" = None) -> None:
    """Answer requests by an ASGI app until asked to end, then finish those in flight.

    `gate` gives some connections to programs instead.
    """
    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        http=Protocol,
        ws="none",  # until a head asks for it: few containers need the library, which takes 1 MiB
        ws_max_size=websocket.MAX_MESSAGE_BYTES,
        proxy_headers=False,  # head.py reads them
        server_header=False,
        access_log=False,
        log_config=None,
        log_level=None,
    )
    library_log.show()
    server = Server(config, serving, gate)
    serving.turns.add(lambda: _sweep(server.server_state.connections))
    await server.answer()


def _sweep(connections: Any) -> bool:
    """End connections whose response is not read, or whose request does not arrive; return whether there may be such."""
    now, is_wanted = time.monotonic(), False
    for connection in list(connections):
        visit = getattr(connection, "visit", None)
        if visit is not None:
            visit.cut_if_unread(now)
            visit.end_if_stalled(now)
            is_wanted = is_wanted or visit.is_unread
    return is_wanted


def _keep_date(state: Any, config: uvicorn.Config) -> None:
    """Set the Date field again, once in each second that has a request (uvicorn uses a timer)."""
    state.second = int(time.time())
    date = (b"date", email.utils.formatdate(state.second, usegmt=True).encode())
    state.default_headers = [date, *config.encoded_headers]
