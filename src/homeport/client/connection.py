"""One connection to the control plane's API: makes requests, and reads answers and streams.

Failures of the server come back as the exceptions that it raised; `ServerBug` is its own fault.
"""

import functools
import ipaddress
import json
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.client.replies import Content, NoReply, NotConnected, Reply, Silence, Transport
from homeport.contract import codec
from homeport.contract.api.answers import BUG, Fault, Refusal
from homeport.contract.calls import ENVIRONMENT
from homeport.contract.errors import BadRequest, ServerUnreachable, Unauthorized
from homeport.settings import Settings

if TYPE_CHECKING:
    import ssl

    from websockets.asyncio.client import ClientConnection

Line = dict[str, Any]  # of a stream, before it is read
T = TypeVar("T")


def path_of(*parts: str) -> str:
    """Return the path of a route of the API, whatever characters the names in it have.

    >>> path_of("apps", "a/b?c", "stop")
    '/v1/apps/a%2Fb%3Fc/stop'
    """
    return "/".join(("/v1", *(urllib.parse.quote(part, safe="*") for part in parts)))


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
        self._environment = {ENVIRONMENT: settings.environment}
        self._http: Transport
        # Each transport is imported when it is needed: httpx is a third of a command's start.
        if settings.server:
            check_private(settings.server)
            from homeport.client.remote import Remote

            headers = {"authorization": f"Bearer {settings.token}", **self._environment}
            self._http = remote = Remote(settings, headers)
            self._ssl = remote.ssl
        else:
            from homeport.client.local import Local

            self._http = Local(str(settings.control_socket), self._environment)

    async def close(self) -> None:
        await self._http.close()

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
        text = await self.call(method, path, content_of(body), answer_s=answer_s)
        return self.read(as_(cls), self._decoded(200, text))

    async def call(
        self, method: str, path: str, content: Content = None, *, answer_s: float | None = None
    ) -> bytes:
        """Make a request; return the body of its reply."""
        async with self.answer(method, path, content, answer_s=answer_s) as reply:
            return await reply.read()

    @asynccontextmanager
    async def stream(
        self, decode: Callable[[Any], T | None], method: str, path: str, body: object = None
    ) -> AsyncIterator[AsyncIterator[T]]:
        """Make a request; yields the lines of its answer, as `decode` reads them.

        Lines for which it returns None are left out: only a newer homeport knows them.
        """
        async with self.answer(method, path, content_of(body)) as reply:
            yield self._lines(decode, reply)

    @asynccontextmanager
    async def answer(
        self, method: str, path: str, content: Content = None, *, answer_s: float | None = None
    ) -> AsyncIterator[Reply]:
        """Make a request; yields its reply, whose body has not been read. A deploy may take any time."""
        try:
            async with self._http.exchange(method, path, content, answer_s=answer_s) as reply:
                if reply.is_error:
                    raise self._failure(reply.status, _shown(await reply.read()))
                yield reply
        except NoReply as error:
            raise self._unreachable(error) from None

    @asynccontextmanager
    async def websocket(self, path: str) -> "AsyncIterator[ClientConnection]":
        """Open a WebSocket; yields the connection (websockets.asyncio.client)."""
        from websockets.asyncio import client  # one command in many needs it
        from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

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
        except InvalidURI:
            raise self._foreign("it sends programs elsewhere") from None
        except (OSError, InvalidHandshake):
            raise ServerUnreachable(
                f"no server answers at {self._where}", hint="`homeport up` starts one"
            ) from None
        try:
            yield socket
        finally:
            await socket.close()

    async def _lines(self, decode: Callable[[Any], T | None], reply: Reply) -> AsyncIterator[T]:
        """Yield the lines of a stream; raise the error that its last line describes."""
        try:
            async for text in _split(reply.pieces()):
                line = self.read(_as_line, self._decoded(reply.status, text))
                if line.get("event") == "error":
                    raise _as_exception(self.read(as_(Refusal), line).error)
                if (value := self.read(decode, line)) is not None:
                    yield value
        except NoReply as error:
            raise self._unreachable(error) from None

    def _decoded(self, status: int, text: bytes) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise self._failure(status, _shown(text)) from None

    def read(self, decode: Callable[[Any], T], data: Any) -> T:
        """Return what `decode` makes of an answer; `OtherVersion` if it cannot."""
        try:
            return decode(data)
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
            raise OtherVersion(
                f"the server at {self._where} is another version of homeport: its answer cannot be read",
                hint="`homeport down` ends it, and `homeport up` starts this version",
            ) from None

    def _failure(self, status: int, text: str) -> Exception:
        """Return the error that an answer describes, or an error if the answer is not homeport's."""
        try:
            return _as_exception(codec.loads(Refusal, text).error)
        except (ValueError, KeyError, TypeError, RecursionError):
            if self._remote:
                return self._foreign(str(status))
            return ServerBug(f"the server answered {status}: {text[:200]}")

    def _foreign(self, what: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"what answers at {self._where} is not homeport's API: {what}",
            hint="is it the URL of a homeport server?",
        )

    def _unreachable(self, error: NoReply) -> ServerUnreachable:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return ServerUnreachable(
                f"the certificate of {self._where} is not from a CA that is trusted here",
                hint="`homeport login URL --ca FILE` names a CA of yours; HOMEPORT_SERVER_CA does, too",
            )
        if isinstance(error, NotConnected):
            return ServerUnreachable(
                f"no server answers at {self._where}", hint="`homeport up` starts one"
            )
        if isinstance(error, Silence):
            return ServerSilent(
                f"a server listens at {self._where}, and does not answer",
                hint="it may be stopped, or the machine too busy: see its server.log, and `ps`",
            )
        return ServerUnreachable(
            "the server went away in the middle of it", hint="`homeport status` says how it is"
        )


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


def _as_line(data: Any) -> Line:
    if not isinstance(data, dict):
        raise TypeError("a line of a stream is an object")
    return data


def _shown(text: bytes) -> str:
    return text.decode(errors="replace")


def content_of(body: object) -> bytes | None:
    """Return a value of the contract as the body of a request."""
    return codec.dumps(body).encode() if body is not None else None


async def _split(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines. `str.splitlines` would also split at other line separators, which a text may hold."""
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
