"""One connection to the control plane's API: makes requests, and reads answers and streams.

Failures of the server come back as the exceptions that it raised; `ServerBug` is its own fault.
"""

import functools
import ipaddress
import json
import ssl
import sys
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.contract import codec
from homeport.contract.api.answers import BUG, Fault, Refusal
from homeport.contract.calls import ENVIRONMENT
from homeport.contract.errors import BadRequest, ServerUnreachable, Unauthorized
from homeport.settings import Settings

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

# httpx has its own command line, whose imports take longer than all the rest of httpx: skip it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

CONNECT_S = 5.0
CHUNK_BYTES = 1024**2

Line = dict[str, Any]  # of a stream, before it is read
T = TypeVar("T")


class ServerBug(Exception):
    """The server failed because of a bug"""


class OtherVersion(ServerUnreachable):
    """The server is another version of homeport"""


class ServerSilent(ServerUnreachable):
    """A server listens, and does not answer"""


class Connection:
    """To this home's server, or to a remote one."""

    def __init__(self, settings: Settings) -> None:
        self._where = settings.server or str(settings.control_socket)
        self._token = settings.token
        self._remote = bool(settings.server)
        self._ssl: ssl.SSLContext | None = None
        timeout = httpx.Timeout(None, connect=CONNECT_S)  # a deploy may take any time
        self._environment = environment = {ENVIRONMENT: settings.environment}
        if settings.server:
            check_private(settings.server)
            self._ssl = _context(settings)
            self._http = httpx.AsyncClient(
                base_url=settings.server,
                headers={"Authorization": f"Bearer {settings.token}", **environment},
                timeout=timeout,
                verify=self._ssl or True,
                # A proxy of the environment would read what goes to this machine's loopback in plain HTTP.
                trust_env=settings.server.startswith("https://"),
            )
        else:
            self._http = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(
                    uds=str(settings.control_socket),
                    # Nothing is encrypted on a socket; without this, httpx reads every CA of the system.
                    verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                ),
                base_url="http://homeport",
                headers=environment,
                timeout=timeout,
            )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(
        self,
        cls: type[T],
        method: str,
        path: str,
        body: object = None,
        *,
        answer_s: float | None = None,
    ) -> T:
        """Make a request, whose body is a value of the contract; return the answer."""
        response = await self.call(method, path, content_of(body), answer_s=answer_s)
        try:
            data = response.json()
        except ValueError:
            raise self._failure(response.status_code, response.text) from None
        return self._read(as_(cls), data)

    async def call(
        self,
        method: str,
        path: str,
        content: bytes | AsyncIterator[bytes] | None = None,
        *,
        answer_s: float | None = None,
    ) -> httpx.Response:
        """Make a request; return its answer."""
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        try:
            response = await self._http.request(method, path, content=content, timeout=timeout)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise self._failure(response.status_code, response.text)
        return response

    @asynccontextmanager
    async def stream(
        self, decode: Callable[[Any], T | None], method: str, path: str, body: object = None
    ) -> AsyncIterator[AsyncIterator[T]]:
        """Make a request; yields the lines of its answer, as `decode` reads them.

        Lines for which it returns None are left out: only a newer homeport knows them.
        """
        async with self.answer(method, path, body) as response:
            yield self._lines(decode, response)

    @asynccontextmanager
    async def answer(
        self, method: str, path: str, body: object = None
    ) -> AsyncIterator[httpx.Response]:
        """Make a request; yields its answer, whose body has not been read."""
        try:
            async with self._http.stream(method, path, content=content_of(body)) as response:
                if response.is_error:
                    await response.aread()
                    raise self._failure(response.status_code, response.text)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    @asynccontextmanager
    async def websocket(self, path: str) -> "AsyncIterator[ClientConnection]":
        """Open a WebSocket; yields the connection (websockets.asyncio.client)."""
        from websockets.asyncio import client  # one command in many needs it
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        if self._remote:
            opening = client.connect(
                f"ws{self._where.removeprefix('http')}{path}",
                additional_headers={"Authorization": f"Bearer {self._token}", **self._environment},
                max_size=None,
                proxy=None,
                ssl=self._ssl,
            )
        else:
            opening = client.unix_connect(
                self._where,
                f"ws://homeport{path}",
                additional_headers=self._environment,
                max_size=None,
            )
        try:
            socket = await opening
        except InvalidStatus as error:
            if error.response.status_code in (401, 403):
                raise Unauthorized(hint="set HOMEPORT_TOKEN to the server's token") from None
            raise OtherVersion(
                f"the server at {self._where} is another version of homeport, which runs no programs",
                hint="`homeport down` ends it, and `homeport up` starts this version",
            ) from None
        except (OSError, InvalidHandshake):
            raise ServerUnreachable(
                f"no server answers at {self._where}", hint="`homeport up` starts one"
            ) from None
        try:
            yield socket
        finally:
            await socket.close()

    async def _lines(
        self, decode: Callable[[Any], T | None], response: httpx.Response
    ) -> AsyncIterator[T]:
        """Yield the lines of a stream; raise the error that its last line describes."""
        try:
            async for text in _split(response.aiter_bytes()):
                try:
                    line: Line = json.loads(text)
                except ValueError:
                    shown = text.decode(errors="replace")
                    raise self._failure(response.status_code, shown) from None
                if line.get("event") == "error":
                    raise _as_exception(self._read(as_(Refusal), line).error)
                if (value := self._read(decode, line)) is not None:
                    yield value
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _read(self, decode: Callable[[Any], T], data: Any) -> T:
        try:
            return decode(data)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise OtherVersion(
                f"the server at {self._where} is another version of homeport: its answer cannot be read",
                hint="`homeport down` ends it, and `homeport up` starts this version",
            ) from None

    def _failure(self, status: int, text: str) -> Exception:
        """Return the error that an answer describes, or an error if the answer is not homeport's."""
        try:
            return _as_exception(codec.loads(Refusal, text).error)
        except (ValueError, KeyError, TypeError):
            if self._remote:
                return ServerUnreachable(
                    f"what answers at {self._where} is not homeport's API: {status}",
                    hint="is it the URL of a homeport server?",
                )
            return ServerBug(f"the server answered {status}: {text[:200]}")

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return ServerUnreachable(
                f"the certificate of {self._where} is not from a CA that is trusted here",
                hint="`homeport login URL --ca FILE` names a CA of yours; HOMEPORT_SERVER_CA does, too",
            )
        if isinstance(error, httpx.ConnectError):
            return ServerUnreachable(
                f"no server answers at {self._where}", hint="`homeport up` starts one"
            )
        if isinstance(error, httpx.TimeoutException):
            return ServerSilent(
                f"a server listens at {self._where}, and does not answer",
                hint="it may be stopped, or the machine too busy: see its server.log, and `ps`",
            )
        return ServerUnreachable(
            "the server went away in the middle of it", hint="`homeport status` says how it is"
        )


def _context(settings: Settings) -> "ssl.SSLContext | None":
    """Return how to verify a server's certificate; None for plain HTTP."""
    if not settings.server.startswith("https://"):
        return None
    try:
        if settings.server_ca:
            return ssl.create_default_context(cafile=settings.server_ca)
    except (OSError, ssl.SSLError) as error:
        raise BadRequest(
            f"the CA's certificate {settings.server_ca} cannot be read: {error.strerror or error}",
            hint="HOMEPORT_SERVER_CA is the path of a file in PEM",
        ) from None
    return httpx.create_ssl_context()


def check_private(server: str) -> None:
    """Raise `BadRequest` if others could read the token on its way: plain HTTP to another machine."""
    url = urllib.parse.urlsplit(server)
    if url.scheme == "https" or _is_loopback(url.hostname or ""):
        return
    raise BadRequest(
        f"the token is not sent to {url.hostname} by plain HTTP, because others could read it on the way",
        hint=f"use https://{url.hostname}, or an SSH tunnel to the server's loopback address",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _as_exception(fault: Fault) -> Exception:
    if fault.kind == BUG:
        return ServerBug(f"{fault.message}\nhint: {fault.hint}")
    return fault.failure()


def as_(cls: type[T]) -> Callable[[Any], T]:
    """Return the function that reads a `cls`."""
    return functools.partial(codec.decode, cls)


def content_of(body: object) -> bytes | None:
    """Return a value of the contract as the body of a request."""
    return codec.dumps(body).encode() if body is not None else None


async def _split(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines. httpx's own function would also split at other line separators, which a text may hold."""
    partial_line = bytearray()
    async for piece in pieces:
        partial_line += piece
        if b"\n" in piece:
            *lines, last = partial_line.split(b"\n")
            for line in lines:
                yield bytes(line)
            partial_line = last
    if partial_line:
        yield bytes(partial_line)
