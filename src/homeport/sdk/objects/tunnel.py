"""`forward`: a URL for a port of a container, while the code inside its context runs."""

import contextlib
import json
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.sdk import context
from homeport.sdk.exception import InvalidError, NotFoundError, UnimplementedError
from homeport.sdk.objects import exchange
from homeport.sdk.objects.exchange import Ask

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Tunnel:
    """A port of a container that has a URL; `modal.forward` makes it."""

    host: str
    port: int
    unencrypted_host: str = ""
    unencrypted_port: int = 0
    _scheme: str = "http"

    @property
    def url(self) -> str:
        """The URL of the port."""
        port = "" if PORTS[self._scheme] == self.port else f":{self.port}"
        return f"{self._scheme}://{self.host}{port}"

    @property
    def tls_socket(self) -> "tuple[str, int]":
        """The host and port of TLS; `InvalidError` if the URL is not HTTPS."""
        if self._scheme != "https":
            raise InvalidError(f"This tunnel has no TLS. Its URL is {self.url}")
        return self.host, self.port

    @property
    def tcp_socket(self) -> "tuple[str, int]":
        """Raise `InvalidError`: a tunnel carries HTTP and WebSockets, and no raw TCP."""
        raise InvalidError(
            f"This tunnel is not configured for unencrypted TCP. Its URL is {self.url}"
        )


def forward(
    port: int,  # of this container: a program of it listens there, now or later
    *,
    unencrypted: bool = False,  # not there yet: a raw TCP port
    h2_enabled: bool = False,  # not there yet: requests reach the program as HTTP/1.1
    client: Any = None,  # noqa: ARG001 - homeport makes its own
) -> "Forward":
    """Give a port of this container a URL while the context lives: `with modal.forward(8000) as tunnel`.

    Everybody who knows the URL can use it; its name is 80 random bits. It carries HTTP and WebSockets. After the
    context, and after the end of the container or a restart of the server, the URL answers 404.
    """
    if context.is_local():
        raise InvalidError("`modal.forward` cannot be used outside a container.")
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise InvalidError(f"The port argument should be an int from 1 to 65535, not {port!r}")
    if unencrypted and h2_enabled:
        raise InvalidError("`h2_enabled=True` and `unencrypted=True` exclude each other.")
    if unencrypted:
        raise UnimplementedError(
            "`modal.forward(…, unencrypted=True)` is not there yet in homeport: a tunnel carries HTTP and "
            "WebSockets, no raw TCP"
        )
    if h2_enabled:
        raise UnimplementedError(
            "`modal.forward(…, h2_enabled=True)` is not there yet in homeport: requests reach the program as HTTP/1.1"
        )
    if context.tunnels is None:
        raise InvalidError("`modal.forward` works only in the container's own process.")
    return Forward(port, context.tunnels())


class Forward:
    """The context of one tunnel, for `with` and `async with`."""

    def __init__(self, port: int, tunnels: Any) -> None:
        self._port, self._tunnels, self._name = port, tunnels, ""

    def __enter__(self) -> Tunnel:
        self._begin()
        try:
            return self._serve(self._opened())
        except BaseException:
            self._tunnels.close(self._name)
            raise

    def __exit__(self, *_error: object) -> None:
        self._tunnels.close(self._name)
        self._closed()

    async def __aenter__(self) -> Tunnel:
        self._begin()
        try:
            return self._serve(await self._opened.aio())
        except BaseException:
            self._tunnels.close(self._name)
            raise

    async def __aexit__(self, *_error: object) -> None:
        self._tunnels.close(self._name)
        await self._closed.aio()

    def _begin(self) -> None:
        if self._name:
            raise InvalidError("a tunnel's context can be entered once; call `modal.forward` again")
        self._name = self._tunnels.open(self._port)

    def _serve(self, info: "dict[str, Any]") -> Tunnel:
        self._tunnels.serve(self._name)
        return Tunnel(host=info["host"], port=info["port"], _scheme=info["scheme"])

    @exchange.operation
    def _opened(self) -> "exchange.Steps[dict[str, Any]]":
        """Wait until the server has given the tunnel a URL."""
        info: dict[str, Any] = json.loads((yield Ask("tunnels", self._name, method="GET")))
        return info

    @exchange.operation
    def _closed(self) -> "exchange.Steps[None]":
        """Wait until the server has removed the URL."""
        with contextlib.suppress(NotFoundError):  # it was removed already
            yield Ask("tunnels", self._name, method="DELETE")
