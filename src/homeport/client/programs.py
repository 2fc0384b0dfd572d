"""Programs that run in containers (control/api/programs.py)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from homeport.client.connection import Connection
from homeport.contract import codec
from homeport.contract.api.answers import Fault
from homeport.contract.errors import ServerUnreachable
from homeport.contract.programs import Order

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PATH = "/v1/programs"

T = TypeVar("T")


class Programs:
    """Runs programs in containers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def run(self, order: Order, **where: str) -> AsyncIterator["Running"]:
        """Run a program until the block ends. `where` is `container`, or `app`, `function` and `session`."""
        path = f"{PATH}?{urlencode({name: text for name, text in where.items() if text})}"
        from websockets.exceptions import ConnectionClosed

        async with self._connection.websocket(path) as socket:
            running = Running(self._connection, socket)
            with contextlib.suppress(ConnectionClosed):  # then no message comes
                await socket.send(json.dumps(codec.encode(order)))
            running.container = await running.started()
            yield running


class Running:
    """A running program, reached by its WebSocket."""

    def __init__(self, connection: Connection, socket: "ClientConnection") -> None:
        self._connection, self._socket = connection, socket
        self.container = ""
        #: For how many pieces of input the server has room. None: it does not say so, and a signal waits behind them.
        self._room: asyncio.Semaphore | None = None

    async def write(self, data: bytes) -> None:
        """Give it input; empty data ends its input.

        It waits while the program takes none, so that a signal is not behind it: read `outputs` meanwhile.
        """
        if self._room is not None:
            await self._room.acquire()
        await self._socket.send(data)

    async def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal."""
        await self._socket.send(json.dumps({"resize": [rows, columns]}))

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        await self._socket.send(json.dumps({"signal": int(number)}))

    async def outputs(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield its output, and the stream (contract/programs.py); the last item is its exit code, as (0, b"7")."""
        while True:
            message = await self._message()
            if isinstance(message, bytes) and message:
                yield message[0], message[1:]
                continue
            code = self._read(message, lambda fields: None if "taken" in fields else fields["code"])
            if code is not None:
                yield 0, str(code).encode()
                return
            if self._room is not None:
                self._room.release()

    async def started(self) -> str:
        """Return the name of its container; raise the failure if it cannot start."""
        container, pieces = self._read(
            await self._message(), lambda fields: (str(fields["started"]), fields.get("ahead"))
        )
        if pieces is not None:
            self._room = asyncio.Semaphore(pieces)
        return container

    def _read(self, message: str | bytes, picked: Callable[[dict[str, Any]], T]) -> T:
        """Return what is picked of a text message; raise the failure that it describes."""

        def decode(text: str | bytes) -> T:
            fields = json.loads(text)
            if "error" in fields:
                raise codec.decode(Fault, fields["error"]).failure()
            return picked(fields)

        return self._connection.read(decode, message)

    async def _message(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._socket.recv()
        except ConnectionClosed:
            raise ServerUnreachable("the connection to the program has ended") from None
