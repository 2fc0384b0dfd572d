"""A program in a container, in memory: for `tests/fakes/node.py`."""

import asyncio

from homeport.contract.programs import OUT, Order


class FakeProgram:
    """`cat`: it writes what it gets, and ends with its input; `exit N` ends at once, with N; `sleep` reads no input."""

    def __init__(self, order: Order) -> None:
        self.sizes = [order.terminal]
        self.signals: list[int] = []
        self.is_closed = False
        self._reads = order.argv[0] != "sleep"
        self._code = int(order.argv[1]) if order.argv[0] == "exit" else 0
        self._output: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._ended = asyncio.Event()
        if order.argv[0] == "exit":
            self._end()

    async def read(self) -> tuple[int, bytes]:
        return await self._output.get()

    async def write(self, data: bytes) -> None:
        if not self._reads:
            await self._ended.wait()
        elif data:
            self._output.put_nowait((OUT, data))
        else:
            self._end()

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    async def signal(self, number: int) -> None:
        self.signals.append(number)

    async def ended(self) -> int:
        await self._ended.wait()
        return self._code

    async def close(self) -> None:
        self.is_closed = True
        self._end()

    def _end(self) -> None:
        self._output.put_nowait((OUT, b""))
        self._ended.set()
