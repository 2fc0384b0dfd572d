"""Parks requests for a pool that has no container, and lets them go when it has one.

Called by ingress/park.lua over a Unix socket, one line each way:
    park <pool>            the request stays in HAProxy; only its head has been read
    go | no <status> <why>
A closed socket means that the visitor hung up.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from homeport.contract.errors import Failure
from homeport.contract.traffic import PoolKey
from homeport.control.pools import Pool, Pools, now

MAX_LINE = 64 * 1024  # as long as HAProxy lets a URL with class parameters be


class Activator:
    """Answers the ingress's one question: may this request go on?"""

    def __init__(
        self,
        socket: Path,
        pools: Pools,
        *,
        wake: Callable[[], None],
        alias: Callable[[str, PoolKey], Awaitable[None]],
    ) -> None:
        self._socket = socket
        self._pools = pools
        self._wake = wake
        self._alias = alias
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; a socket that an earlier run left is replaced."""
        self._socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._visit, path=str(self._socket), limit=MAX_LINE
        )

    async def close(self) -> None:
        """Turn away everyone who waits."""
        if self._server is None:
            return
        self._server.close()
        for visit in list(self._visits):
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        self._socket.unlink(missing_ok=True)

    async def park(self, key: PoolKey) -> None:
        """Return when a container can take the request; raise a `Failure` when none will."""
        pool = self._pools.called_for(key)
        if not pool.ready:
            await self._wait(pool)
        if key != pool.key:
            await self._alias(str(key), pool.key)

    async def _wait(self, pool: Pool) -> None:
        if pool.failure is not None and now() < pool.retry_at:
            raise pool.failure
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pool.parked[waiting] = now()
        self._wake()
        try:
            await waiting
        finally:
            pool.parked.pop(waiting, None)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._visits.add(task)
        try:
            line = (await reader.readline()).decode()
            answer = await self._unless_hung_up(line, reader)
            if answer:
                writer.write(answer.encode())
                await writer.drain()
        except (OSError, ValueError, asyncio.CancelledError):
            pass  # the visitor went, or we are closing: nobody is there to be told
        finally:
            self._visits.discard(task)
            writer.close()

    async def _unless_hung_up(self, line: str, reader: asyncio.StreamReader) -> str:
        answering = asyncio.ensure_future(self._answer(line))
        hanging_up = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else ""
        finally:
            for task in (answering, hanging_up):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await asyncio.gather(answering, hanging_up, return_exceptions=True)

    async def _answer(self, line: str) -> str:
        verb, _, text = line.strip().partition(" ")
        if verb != "park":
            return "no 400 unknown verb\n"
        try:
            await self.park(PoolKey.parse(text))
        except Failure as failure:
            return f"no {failure.status} {' '.join(failure.message.split())}\n"
        return "go\n"
