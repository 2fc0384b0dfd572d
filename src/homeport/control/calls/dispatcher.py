"""Sends spawned calls to their functions, as requests over the ingress's socket.

A call is sent until a container has claimed it, so it may be sent twice and runs once (state/calls.py). At most
`MOST` calls of a function are on their way at once; the others are rows, so any number of calls takes the same memory.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from homeport import wire
from homeport.contract import calls
from homeport.contract.errors import BadRequest, Failure, NotFound, StorageError
from homeport.control.calls.spawned import Spawned
from homeport.control.fleet.owner import Owner
from homeport.state.calls import CallRow, Outcome
from homeport.supervised import Tasks, supervised

MOST = 100  # requests of one function at once; the autoscaler sees them queue
LOOK_EACH_S = 1.0  # how often to look for containers that ended with a call
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
GIVE_UP_S = 24 * 3600.0  # after which a call that no container can take has failed
SWEEP_EACH_S = 3600.0
REFUSED = {400: "BadRequest", 404: "NotFound", 413: "TooLarge"}

Key = tuple[str, int]
log = logging.getLogger(__name__)


class Dispatcher:
    """Brings waiting calls to containers."""

    def __init__(
        self,
        spawned: Spawned,
        socket: Path,
        containers: Callable[[], Collection[str]],
        *,
        is_away: Callable[[Owner], bool] = lambda _app: False,
    ) -> None:
        """`containers` returns the ids of those that have not ended; `is_away`, whether an app waits to be restored."""
        self._spawned = spawned
        self._socket = str(socket)
        self._containers = containers
        self._is_away = is_away
        self._flying: dict[Key, asyncio.Future[None]] = {}
        self._endpoints: Counter[str] = Counter()
        self._pauses: dict[Key, float] = {}
        self._soon = asyncio.Event()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to send."""
        self._spawned.wake = self._soon.set
        self._spawned.stopped = self._stop
        for name, loop in (
            ("sending calls", self._send_all),
            ("looking for lost calls", self._look),
            ("removing old calls", self._sweep),
        ):
            self._tasks.start(name, supervised(name, loop, told=StorageError))

    async def close(self) -> None:
        """Stop sending; calls that containers have claimed go on."""
        await self._tasks.close()

    async def _send_all(self) -> None:
        rows = self._spawned.rows
        while True:
            self._soon.clear()
            now = time.time()
            for endpoint in await rows.endpoints(now):
                room = MOST - self._endpoints[endpoint]
                if room > 0:
                    for row in await rows.due(endpoint, now, self._flying, room):
                        self._begin(row)
            next_due = await rows.next_due(now)
            wait_s = 60.0 if next_due is None else max(next_due - time.time(), 0.01)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    wait_s
                ):  # `wait_for` of Python 3.11 may swallow a cancellation
                    await self._soon.wait()

    def _begin(self, row: CallRow) -> None:
        key = (row.id, row.place)
        self._endpoints[row.endpoint] += 1
        task = self._tasks.start(f"the call {row.id}", self._sent(row))
        self._flying[key] = task

        def landed(_task: "asyncio.Future[None]") -> None:
            self._flying.pop(key, None)
            self._endpoints[row.endpoint] -= 1
            self._soon.set()

        task.add_done_callback(landed)

    async def _sent(self, row: CallRow) -> None:
        try:
            await self._send(row)
        except StorageError as error:
            log.warning("the call %s is sent again later: %s", row.id, error.message)

    async def _send(self, row: CallRow) -> None:
        fields = {
            calls.CALL_ID: row.id,
            calls.PLACE: str(row.place),
            calls.ATTEMPT: str(row.attempt),
            calls.PYTHON: row.python,
        }
        try:
            await self._spawned.prepare(row)
        except (BadRequest, NotFound) as error:
            await self._refuse(row, f"{type(error).__name__}: {error.message}")
            return
        except Failure as error:
            await self._later(row, error.message)
            return
        try:
            body = await self._spawned.rows.input(row)
            request = wire.Request(row.endpoint, body, query=row.parameters, fields=fields)
            answer = await wire.ask_async(self._socket, request)
        except (OSError, ValueError, Failure) as error:
            await self._later(row, str(error))
            return
        if answer.status in (200, 409):  # delivered, or another container's
            self._pauses.pop((row.id, row.place), None)
            # If no container has claimed it, wait before it is sent again.
            await self._spawned.rows.postpone(row, time.time() + FIRST_PAUSE_S, "")
            return
        text = bytes(answer.body).decode("utf-8", "replace").strip().removeprefix("homeport: ")
        if answer.status in REFUSED and not (answer.status == 404 and row.options is not None):
            await self._refuse(row, f"{REFUSED[answer.status]}: {text}")
            return
        await self._later(row, f"{answer.status}: {text}")

    async def _refuse(self, row: CallRow, why: str) -> None:
        """End a call that nobody can run; one of an app that is being restored waits for it."""
        if self._is_away(Owner.app(row.scope, row.app)):
            await self._later(row, why)
            return
        await self._spawned.end(row, Outcome(kind="refused", python="", body=why.encode()))

    async def _later(self, row: CallRow, note: str) -> None:
        """Try again after a pause that grows."""
        key = (row.id, row.place)
        if time.time() - row.created_at > GIVE_UP_S:
            self._pauses.pop(key, None)
            await self._spawned.end(row, Outcome(kind="refused", python="", body=note.encode()))
            return
        pause_s = self._pauses.get(key, FIRST_PAUSE_S)
        self._pauses[key] = min(2 * pause_s, LONGEST_PAUSE_S)
        await self._spawned.rows.postpone(row, time.time() + pause_s, note[:500])

    def _stop(self, rows: Sequence[CallRow]) -> None:
        """Cut the requests of cancelled calls; their containers then ask whether the call was cancelled."""
        for row in rows:
            if (task := self._flying.get((row.id, row.place))) is not None:
                task.cancel()

    async def _look(self) -> None:
        """End the attempts whose containers have ended without an outcome."""
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            await self._end_lost()

    async def _end_lost(self) -> None:
        running = await self._spawned.rows.running()
        there = set(self._containers())
        for row in running:
            if row.container not in there:
                log.warning("the container %s ended with the call %s", row.container, row.id)
                text = f"the container {row.container} ended while it ran the call"
                await self._spawned.end(row, Outcome(kind="ended", python="", body=text.encode()))

    async def _sweep(self) -> None:
        while True:
            await self._spawned.rows.sweep()
            await asyncio.sleep(SWEEP_EACH_S)
