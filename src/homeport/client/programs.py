"""Programs that run in containers (control/api/programs.py)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from homeport.client.connection import Connection
from homeport.contract import codec
from homeport.contract.api.answers import Fault
from homeport.contract.errors import ServerUnreachable
from homeport.contract.programs import Order

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PATH = "/v1/programs"


class Programs:
    """Runs programs in containers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def run(self, order: Order, **where: str) -> AsyncIterator["Running"]:
        """Run a program until the block ends. `where` is `container`, or `app`, `function` and `session`."""
        path = f"{PATH}?{urlencode({name: text for name, text in where.items() if text})}"
        async with self._connection.websocket(path) as socket:
            await socket.send(json.dumps(codec.encode(order)))
            running = Running(socket)
            running.container = (await running.next_text())["started"]
            yield running


class Running:
    """A running program, reached by its WebSocket."""

    def __init__(self, socket: "ClientConnection") -> None:
        self._socket = socket
        self.container = ""

    async def write(self, data: bytes) -> None:
        """Give it input; empty data ends its input."""
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
            if isinstance(message, bytes):
                yield message[0], message[1:]
                continue
            ending = _read(message)
            yield 0, str(ending["code"]).encode()
            return

    async def next_text(self) -> dict[str, Any]:
        """Return the next text message; raise the failure that it describes."""
        message = await self._message()
        return _read(message if isinstance(message, str) else "{}")

    async def _message(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._socket.recv()
        except ConnectionClosed:
            raise ServerUnreachable("the connection to the program has ended") from None


def _read(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text)
    if "error" in data:
        fault: Fault = codec.decode(Fault, data["error"])
        raise fault.failure()
    return data
