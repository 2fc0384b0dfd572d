"""The door of a class that has a `web_server` and other methods: to each request its program or its app.

The ingress sends one request on each connection and names its method. This module reads the head of each
request, and gives the connection to the relay of the method's program, or to the app server.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from homeport.contract.sizes import KIB
from homeport.runner.servers.head import without_method
from homeport.runner.servers.port import relay_to, watch
from homeport.runner.servers.relay import TRY_ELSEWHERE, Relay
from homeport.runner.servers.serving import Serving

MAX_HEAD_BYTES = 128 * KIB  # as large as the ingress's buffer
Factory = Callable[[], asyncio.BaseProtocol]


class Gate:
    """Gives each connection of one door to a program or to the app server."""

    def __init__(self, programs: Mapping[str, int], serving: Serving) -> None:
        """`programs` has the port of each `web_server`, by the name of its method."""
        self._serving = serving
        self._relays = {name: relay_to(port, serving) for name, port in programs.items()}
        self._undecided: set[Entering] = set()
        self._settled = asyncio.Event()  # set while each open connection has its server
        self._is_used_up = False  # True if a single-use container has taken its one request
        self._watches = [asyncio.ensure_future(self._watch(r)) for r in self._relays.values()]

    def factory(self, app_server: Factory) -> Factory:
        """Return what makes the protocol of a new connection; `app_server` makes that of the app server."""
        return lambda: Entering(self, app_server)

    async def settle(self) -> None:
        """Wait until each open connection has got to its server, unless requests must be cut."""
        cut = self._serving.ending.cut
        while self._undecided and not cut.is_set():
            waits = [asyncio.ensure_future(event.wait()) for event in (self._settled, cut)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def close(self) -> None:
        """Wait for the requests inside the programs."""
        await asyncio.gather(*self._watches)
        await asyncio.gather(*(relay.close() for relay in self._relays.values()))

    def entered(self, connection: "Entering") -> None:
        """Note a connection whose request is not known yet."""
        self._undecided.add(connection)
        self._settled.clear()

    def decided(self, connection: "Entering") -> None:
        """Record that the connection has its server, or has ended."""
        self._undecided.discard(connection)
        if not self._undecided:
            self._settled.set()

    def relay(self, method: str) -> "Relay | None":
        """Return the relay of a method's program; None for a method of the app server."""
        return self._relays.get(method)

    def takes(self) -> bool:
        """Return whether the container may take the request that begins now."""
        if not self._serving.order.function.single_use:
            return True
        was, self._is_used_up = self._is_used_up, True
        return not was

    async def _watch(self, relay: Relay) -> None:
        if not await watch(relay, self._serving.ending):
            self._serving.ending.fail()


class Entering(asyncio.Protocol):
    """A connection until its request's head is complete."""

    takes_only_one = False  # True if no descriptor is left for another connection: loop.Entrance
    _transport: Any = None  # asyncio.Transport, or uvloop's

    def __init__(self, gate: Gate, app_server: Factory) -> None:
        self._gate = gate
        self._app_server = app_server
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A request comes, or HAProxy's check of the container, which is a connection without bytes."""
        self._transport = transport
        self._gate.entered(self)

    def data_received(self, data: bytes) -> None:
        """Read on until the head is complete."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            self._gate.decided(self)
            self._decide(end)
        elif len(self._head) > MAX_HEAD_BYTES:
            self._transport.abort()

    def eof_received(self) -> bool:
        """The visitor has left before the request was complete."""
        return False

    def connection_lost(self, _error: "Exception | None") -> None:
        """The connection has ended."""
        self._gate.decided(self)

    def _decide(self, end: int) -> None:
        if not self._gate.takes():
            head = f"HTTP/1.1 {TRY_ELSEWHERE}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            self._transport.write(head.encode())
            self._transport.close()
            return
        method, capture, data = without_method(self._head, end)
        if (relay := self._gate.relay(method)) is not None:
            self._hand_over(relay.visit(capture), data)
            return
        protocol = self._app_server()
        if self.takes_only_one:
            protocol.takes_only_one = True  # type: ignore[attr-defined]
        self._hand_over(protocol, self._head)

    def _hand_over(self, protocol: asyncio.BaseProtocol, data: bytes) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)
