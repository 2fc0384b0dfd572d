"""Requests to this machine's server, over its Unix socket: h11, and a connection for each request.

httpx would do it too. Its imports are a third of a command's start, and of what it can do a socket needs nothing:
no TLS, no proxies, no redirects, no cookies. It stays the transport to other machines (`remote`).
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import h11

from homeport.client.replies import (
    CHUNK_BYTES,
    CONNECT_S,
    Content,
    NoReply,
    NotConnected,
    Reply,
    Silence,
)

Headers = list[tuple[str, str]]


class Local:
    """The transport to a home's server."""

    def __init__(self, path: str, headers: Mapping[str, str]) -> None:
        self._path = path
        self._headers: Headers = [("host", "homeport"), ("connection", "close"), *headers.items()]

    async def close(self) -> None:
        """Do nothing: each connection is closed with its request."""

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, content: Content, *, answer_s: float | None
    ) -> AsyncIterator[Reply]:
        """Make a request; see `Transport`."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_S):
                    await asyncio.get_running_loop().sock_connect(connection, self._path)
            except TimeoutError:
                raise Silence("it accepts no connection") from None
            except OSError as error:
                raise NotConnected(str(error)) from None
            exchange = _Exchange(connection, answer_s)
            await exchange.send(method, path, self._headers, content)
            yield await exchange.reply()


class _Exchange:
    """One request over one connection.

    It uses the socket itself: asyncio's streams throw away what has arrived when a write fails.
    """

    def __init__(self, connection: socket.socket, answer_s: float | None) -> None:
        self._connection, self._answer_s = connection, answer_s
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, method: str, path: str, headers: Headers, content: Content) -> None:
        """Send the request; a server that has refused its body may have closed the connection already."""
        if isinstance(content, bytes):
            framing = [("content-length", str(len(content)))]
        elif content is not None:
            framing = [("transfer-encoding", "chunked")]
        else:
            framing = []
        request = h11.Request(method=method, target=path, headers=headers + framing)
        if not await self._write(request):
            return
        async for piece in _pieces_of(content):
            if not await self._write(h11.Data(data=piece)):
                return
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> bool:
        """Send a part of the request; return False if the server reads no more: its reply says why."""
        data = self._http.send(event)
        try:
            await asyncio.get_running_loop().sock_sendall(self._connection, data or b"")
        except OSError:
            return False
        return True

    async def reply(self) -> Reply:
        """Return the head of the reply."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return Reply(event.status_code, self._pieces)

    async def _pieces(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def _next(self) -> object:
        """Return the next part of the reply: an event of h11."""
        loop = asyncio.get_running_loop()
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(self._answer_s):
                    self._http.receive_data(await loop.sock_recv(self._connection, CHUNK_BYTES))
        except TimeoutError:
            raise Silence("it sends nothing") from None
        except (h11.RemoteProtocolError, OSError) as error:
            raise NoReply(str(error)) from None
        return event


async def _pieces_of(content: Content) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
    elif content is not None:
        async for piece in content:
            yield piece
