"""Parks requests for a pool that has no container, and releases them when it has one.

Called by ingress/park.lua over a Unix socket, one line each way:
    park <pool> <request id> [here | call]   the request stays in HAProxy; only its head has been read
    go | go waited | no <status> <why>
    list                                     may a visitor on this machine see which URLs there are?  go | no <status> <why>
    awake <pool>                             the first request to this pool since `Ingress.doze` begins; there is no answer
`here` means that the visitor is on this machine, `call` that another function calls. A closed socket means that the visitor hung up.
`waited` means that the request waited here for a container, so its re-entries count from 0 again.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from homeport.contract.container import LogLine
from homeport.contract.errors import BadRequest, Failure, NotFound, StartError, TooMany
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.pool import Pool, now
from homeport.control.fleet.pools import Pools

MAX_LINE = 16 * 1024  # park.lua sends at most 4 KiB of class parameters
MAX_TEXT = 1000  # characters of a reason that a visitor gets
#: Concurrent connections; beyond it HAProxy's connection is refused, and it retries later.
BACKLOG = 4096
MOST_PARKED = 5000  # requests of one pool: each is an open file here and two in HAProxy
QUIET_S = 1.0  # a reason is logged once in this time, however many requests fail by it
WITHHELD = "no container could be started; the reason is in the app's log"
_REQUEST = re.compile(r"[0-9a-f-]{1,64}")


class Activator:
    """Answers the ingress once a parked request may continue, or cannot be answered."""

    def __init__(
        self,
        socket: Path,
        pools: Pools,
        *,
        wake: Callable[[Pool], None],
        rouse: Callable[[PoolKey], None],
        alias: Callable[[str, PoolKey], Awaitable[None]],
        say: Callable[[LogLine], None],
        alone: Callable[[], bool] = lambda: True,
    ) -> None:
        """`alone` returns whether the server has one workspace. Otherwise code of another one may be the visitor on this machine."""
        self._alone = alone
        self._socket = socket
        self._pools = pools
        self._wake = wake  # a request waits for a container of this pool
        self._rouse = rouse  # a request has begun in a container
        self._alias = alias
        self._say = say
        self._said_at: dict[PoolKey, float] = {}  # when a reason was last written to the app's log
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; replace a socket that an earlier run left."""
        self._socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._visit, path=str(self._socket), limit=MAX_LINE, backlog=BACKLOG
        )

    async def close(self) -> None:
        """Refuse all parked requests."""
        if self._server is None:
            return
        self._server.close()
        for visit in list(self._visits):
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        self._socket.unlink(missing_ok=True)

    async def park(self, key: PoolKey) -> bool:
        """Wait until a container can take the request; raise a `Failure` if none will.

        Returns whether the request had to wait.
        """
        pool = self._pools.called_for(key)
        waited = not pool.open
        if waited:
            await self._wait(pool)
        if key != pool.key:
            await self._alias(str(key), pool.key)
        return waited

    async def _wait(self, pool: Pool) -> None:
        if pool.failure is not None and now() < pool.retry_at:
            raise pool.failure
        if len(pool.parked) >= MOST_PARKED:
            raise TooMany(f"{MOST_PARKED} requests wait for `{pool.key.function}`; try again")
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pool.parked[waiting] = now()
        self._wake(pool)
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
            pass  # the visitor hung up, or the server is closing: no answer is needed
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
        verb, *words = line.split()
        if verb == "list":
            return "go\n" if self._alone() else "no 403 the server has several workspaces\n"
        if verb not in {"awake", "park"} or not words:
            return "no 400 unknown verb\n"
        key = PoolKey.parse(words[0])
        if verb == "awake":
            self._rouse(key)
            return ""
        try:
            waited = await self.park(key)
        except Failure as failure:
            return self._refusal(key, failure, words[1:])
        return "go waited\n" if waited else "go\n"

    def _refusal(self, key: PoolKey, failure: Failure, words: list[str]) -> str:
        """Return the answer to the visitor.

        Only callers, and the user who serves the script, see why a start failed.
        """
        if "call" in words:
            # Not 503, after which a caller tries again: the reason stays until there is a new version.
            status = 500 if isinstance(failure, StartError) else failure.status
            return f"no {status} {_one_line(failure.message)}\n"
        base = key.base
        pool = self._pools.get(base)
        is_own_session = self._alone() and "here" in words and pool is not None and pool.ephemeral
        if is_own_session or isinstance(failure, BadRequest | NotFound) or failure.status == 429:
            return f"no {failure.status} {_one_line(failure.message)}\n"
        if pool is not None and now() - self._said_at.get(base, -QUIET_S) >= QUIET_S:
            self._said_at[base] = now()
            self._said_at = {k: at for k, at in self._said_at.items() if self._pools.get(k)}
            request = next(filter(_REQUEST.fullmatch, words), "unknown")
            self._say(
                LogLine(
                    at=time.time(),
                    app=key.app,
                    function=key.function,
                    container="",
                    text=f"request {request} got 503: {_one_line(failure.message)}",
                    source="system",
                    request=request,
                    within=pool.owner.scope,
                )
            )
        return f"no 503 {WITHHELD}\n"


def _one_line(text: str) -> str:
    """Return the text for an answer or a log: printable, on one line, of limited length."""
    text = " ".join(text.split())[:MAX_TEXT]
    return "".join(letter if letter.isprintable() else "?" for letter in text)
