"""Sends spawned calls to their functions, as requests over the ingress's socket.

A call is sent until a container has claimed it, so it may be sent twice and runs once (state/calls.py). At most
`lines.MOST` calls of a function are on their way at once; the others are rows, so any number of calls takes the same memory.
"""

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from homeport import wire
from homeport.contract import calls, tracing
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Failure, NotFound, StorageError
from homeport.control.calls.lines import Key, Line, Waiting
from homeport.control.calls.spawned import Spawned
from homeport.control.fleet.owner import Owner
from homeport.state.calls import CallRow, Outcome
from homeport.supervised import Tasks, supervised

#: How often to ask for functions with waiting calls: what was missed waits no longer.
LOOK_ALL_S = 60.0
LOOK_EACH_S = 1.0  # how often to look for containers that ended with a call
READ_AFTER_S = 5.0  # for how long to read the running calls after a container has ended
READ_EACH_S = 30.0  # how often to read them anyway
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
#: No call waits longer for its next try: `max_delay` of retries is at most this. If one does, the clock was set back.
LONGEST_WAIT_S = 60.0
GIVE_UP_S = 24 * 3600.0  # a call that no container could take for so long has failed,
TRIED_S = 600.0  # and this server has tried for so long: the clock may have jumped
SWEEP_EACH_S = 3600.0
REFUSED = {400: "BadRequest", 404: "NotFound", 413: "TooLarge"}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Flight:
    """A call that is on its way."""

    attempt: int
    task: "asyncio.Future[None]"
    is_claimed: bool = False


@dataclass(slots=True)
class _Trouble:
    """A call that could not be sent."""

    since: float  # on the loop's clock
    pause_s: float  # before its next try


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
        self._lines: dict[str, Line] = {}  # by endpoint
        self._flights: dict[Key, _Flight] = {}
        self._troubles: dict[Key, _Trouble] = {}  # of calls that wait for their next try
        self._soon = asyncio.Event()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to send."""
        self._spawned.sender = self
        for name, loop in (
            ("sending calls", self._send_all),
            ("looking for lost calls", self._look),
            ("removing old calls", self._sweep),
        ):
            self._tasks.start(name, supervised(name, loop, expected=StorageError))

    async def close(self) -> None:
        """Stop sending; calls that containers have claimed continue."""
        await self._tasks.close()

    def added(self, calls: Sequence[Waiting]) -> None:
        """Send new calls of one function, which are in the database."""
        line = self._line(calls[0][0].endpoint)
        line.add(calls)
        self._begin(line)

    def claimed(self, call: str, place: int, attempt: int) -> None:
        """Note that a container has a call."""
        flight = self._flights.get((call, place))
        if flight is not None and flight.attempt == attempt:
            flight.is_claimed = True

    def due(self, endpoint: str, at: float) -> None:
        """Note that a call waits for a time."""
        self._line(endpoint).due(at)
        self._soon.set()

    def stopped(self, rows: Sequence[CallRow]) -> None:
        """Cut the requests of cancelled calls; their containers then ask whether the call was cancelled."""
        for row in rows:
            key = (row.id, row.place)
            self._troubles.pop(key, None)
            if (line := self._lines.get(row.endpoint)) is not None:
                line.drop(key)
            if (flight := self._flights.get(key)) is not None:
                flight.task.cancel()

    async def _send_all(self) -> None:
        clock = asyncio.get_running_loop().time
        look_all_at = clock()
        while True:
            self._soon.clear()
            now = time.time()
            if clock() >= look_all_at:
                look_all_at = clock() + LOOK_ALL_S
                await self._look_all(now)
            for line in list(self._lines.values()):
                await self._fill(line, now)
                self._begin(line)
                if line.is_empty:
                    del self._lines[line.endpoint]
            next_at = min((line.next_at for line in self._lines.values()), default=math.inf)
            wait_s = min(look_all_at - clock(), next_at - time.time())
            with contextlib.suppress(TimeoutError):
                # `wait_for` of Python 3.11 may swallow a cancellation.
                async with asyncio.timeout(max(wait_s, 0.01)):
                    await self._soon.wait()

    async def _look_all(self, now: float) -> None:
        """Look at all functions with waiting calls, also at those that seem to wait for long: the clock was set back."""
        rows = self._spawned.rows
        await rows.hasten(now + LONGEST_WAIT_S, due_at=now)
        for endpoint in await rows.endpoints():
            self._line(endpoint).due(now)

    async def _fill(self, line: Line, now: float) -> None:
        """Read the next calls of a function, if its line has no more and the database may have some."""
        rows = self._spawned.rows
        if line.next_at <= now:
            line.next_at, line.is_behind = math.inf, True
            try:
                line.due(await rows.next_due(line.endpoint, now) or math.inf)
            except BaseException:
                line.due(now)
                raise
        if (most := line.wanted) > 0:
            line.is_behind = False  # calls that are added meanwhile set it again
            try:
                waiting = await rows.due(line.endpoint, now, most)
            except BaseException:
                line.is_behind = True
                raise
            line.read(waiting)
            line.is_behind = line.is_behind or len(waiting) == most

    def _line(self, endpoint: str) -> Line:
        line = self._lines.get(endpoint)
        if line is None:
            line = self._lines[endpoint] = Line(endpoint)
        return line

    def _begin(self, line: Line) -> None:
        """Send what may be sent now."""
        while (waiting := line.take()) is not None:
            row, body = waiting
            key = (row.id, row.place)
            task = self._tasks.start(f"the call {row.id}", self._sent(row, body))
            self._flights[key] = _Flight(row.attempt, task)
            task.add_done_callback(functools.partial(self._landed, line, key))
        if line.wanted or line.is_empty:
            self._soon.set()

    def _landed(self, line: Line, key: Key, _task: "asyncio.Future[None]") -> None:
        del self._flights[key]
        line.landed(key)
        self._begin(line)

    async def _sent(self, row: CallRow, body: bytes | None) -> None:
        try:
            await self._send(row, body)
        except StorageError as error:
            self.due(row.endpoint, time.time() + FIRST_PAUSE_S)
            log.warning("the call %s is sent again later: %s", row.id, error.message)

    async def _send(self, row: CallRow, body: bytes | None) -> None:
        fields = {
            calls.CALL_ID: row.id,
            calls.PLACE: str(row.place),
            calls.ATTEMPT: str(row.attempt),
            calls.PYTHON: row.python,
            **tracing.carried(row.trace),
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
            if body is None:
                body = await self._spawned.rows.input(row)
            request = wire.Request(row.endpoint, body, query=row.parameters, fields=fields)
            answer = await wire.ask_async(self._socket, request)
        except (OSError, ValueError, Failure) as error:
            await self._later(row, str(error))
            return
        if answer.status in (200, 409):  # delivered, or another container's
            self._troubles.pop((row.id, row.place), None)
            if not self._flights[row.id, row.place].is_claimed:  # wait before it is sent again
                await self._postpone(row, FIRST_PAUSE_S, "")
            return
        text = bytes(answer.body).decode("utf-8", "replace").strip().removeprefix("homeport: ")
        if answer.status in REFUSED and not (answer.status == 404 and row.options is not None):
            await self._refuse(row, f"{REFUSED[answer.status]}: {text}")
            return
        await self._later(row, f"{answer.status}: {text}")

    async def _refuse(self, row: CallRow, why: str) -> None:
        """End a call that cannot be run; a call of an app that is being restored waits for it."""
        if self._is_away(Owner.app(row.scope, row.app)):
            await self._later(row, why)
            return
        await self._give_up(row, why)

    async def _later(self, row: CallRow, note: str) -> None:
        """Try again after a pause that grows."""
        now = asyncio.get_running_loop().time()
        trouble = self._troubles.setdefault((row.id, row.place), _Trouble(now, FIRST_PAUSE_S))
        if time.time() - row.created_at > GIVE_UP_S and now - trouble.since >= TRIED_S:
            await self._give_up(row, note)
            return
        pause_s, trouble.pause_s = trouble.pause_s, min(2 * trouble.pause_s, LONGEST_PAUSE_S)
        await self._postpone(row, pause_s, note[:500])

    async def _give_up(self, row: CallRow, why: str) -> None:
        self._troubles.pop((row.id, row.place), None)
        await self._spawned.end(row, Outcome(kind="refused", python="", body=why.encode()))

    async def _postpone(self, row: CallRow, pause_s: float, note: str) -> None:
        due_at = time.time() + pause_s
        if await self._spawned.rows.postpone(row, due_at, note):
            self.due(row.endpoint, due_at)
        else:  # it was claimed, or is over
            self._troubles.pop((row.id, row.place), None)

    async def _look(self) -> None:
        """End the attempts whose containers have ended without an outcome.

        The rows are read after a container has ended, and now and then: a claim may be noted after the end.
        """
        seen_instances: set[str] = set()
        read_until = read_at = 0.0
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            there, now = set(self._containers()), time.monotonic()
            if not seen_instances <= there:
                read_until = now + READ_AFTER_S
            if now < read_until or now >= read_at:
                read_at = now + READ_EACH_S
                await self._end_lost()
            seen_instances = there

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
