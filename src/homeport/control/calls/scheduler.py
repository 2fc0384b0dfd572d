"""Runs scheduled functions: when one is due, a call of it is written, and the dispatcher brings it to a container.

Only deployed apps have schedules, not `serve` and `run` sessions. The next time of each is in the database
(state/schedules.py), so a restart neither loses nor doubles a run. A run that could not begin for longer than `LATE_S`,
because the server or the machine did not run or its clock was wrong, is written into the app's log and left out.
"""

import asyncio
import contextlib
import dataclasses
import logging
import pickle
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from homeport.contract import calls, codec
from homeport.contract.container import LogLine
from homeport.contract.errors import StorageError
from homeport.contract.schedules import Schedule
from homeport.contract.scope import Scope
from homeport.control.calls.spawned import Spawned
from homeport.control.deploys import timing
from homeport.control.deploys.apps import Live, LiveApp
from homeport.control.fleet.owner import Owner
from homeport.state.calls import CallRow
from homeport.state.schedules import ScheduleRow, Schedules, call_id
from homeport.state.scope import columns
from homeport.supervised import Tasks, supervised

LATE_S = 60.0  # a run may begin that late: a restart takes less
LOOK_EACH_S = 20.0  # at least so often, because the machine's clock may jump or stand still
AGAIN_S = 5.0  # before the next try without a database
BACK_S = 1.0  # a clock that goes back by more is looked at as a jump
NO_ARGUMENTS = pickle.dumps(((), {}), protocol=4)  # as every Python reads it

log = logging.getLogger(__name__)


class Scheduler:
    """The schedules of the deployed apps."""

    def __init__(
        self,
        rows: Schedules,
        spawned: Spawned,
        live: Live,
        *,
        settled: Callable[[Owner], bool],
        key: Callable[[Scope], str],
        say: Callable[[LogLine], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`key` returns the key of an environment. `settled` returns False while a deployed app is changed, or waits to be restored."""
        self._rows = rows
        self._spawned = spawned
        self._live = live
        self._settled = settled
        self._key = key
        self._say = say
        self._clock = clock
        self._apps: defaultdict[Owner, dict[str, ScheduleRow]] = defaultdict(
            dict
        )  # by app, function
        self._is_stale = True  # the database has other rows
        self._revisions: dict[Owner, str] = {}  # app -> the revision whose schedules are saved
        self._waiting: set[tuple[Owner, str]] = set()  # functions whose last run has not begun
        self._looked_at = float("inf")  # before the first look: as if the clock had been set back
        self._soon = asyncio.Event()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to look."""
        self._tasks.start("schedules", supervised("running scheduled functions", self._look_on))

    async def close(self) -> None:
        """Look no more."""
        await self._tasks.close()

    def wake(self) -> None:
        """Look at once: an app has changed."""
        self._soon.set()

    def next_runs(self, app: Owner) -> dict[str, float]:
        """Return function -> when it runs next, in seconds since the epoch."""
        return {name: row.next_at for name, row in self._apps.get(app, {}).items()}

    async def look(self) -> float:
        """Write the calls that are due; return the time of the next look."""
        if self._is_stale:
            await self._read()
        now = self._clock()
        went_back = now < self._looked_at - BACK_S
        self._looked_at = now
        apps = {app.owner: app for app in self._live.all() if app.owner.is_app}
        for name in {*apps, *self._apps}:
            if not self._settled(name):
                continue
            if (app := apps.get(name)) is None:
                await self._forget(name)
            elif self._revisions.get(name) != app.revision.id:
                await self._take(app, now)
        rows = [row for name in apps for row in self._apps.get(name, {}).values()]
        for row in rows:
            if row.next_at <= now:
                await self._due(row, now)
            elif went_back:
                await self._went_back(row, now)
        coming = [row.next_at for name in apps for row in self._apps.get(name, {}).values()]
        return min([now + LOOK_EACH_S, *coming])

    async def _read(self) -> None:
        rows = await self._rows.all()
        self._apps.clear()
        self._revisions.clear()
        for row in rows:
            self._apps[_owner(row)][row.function] = row
        self._is_stale = False

    async def _look_on(self) -> None:
        while True:
            self._soon.clear()
            try:
                wait_s = await self.look() - self._clock()
            except StorageError as error:
                log.warning("no scheduled function runs: %s", error.message)
                wait_s = AGAIN_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, 0.01)):
                    await self._soon.wait()

    async def _take(self, app: LiveApp, now: float) -> None:
        """Save the schedules of an app's new revision.

        A Cron continues as it was. A Period starts again with each deploy, and continues after a restart.
        """
        before = self._apps.get(app.owner, {})
        rows: dict[str, ScheduleRow] = {}
        for spec in app.revision.manifest.functions:
            if (schedule := spec.schedule) is None:
                continue
            text = codec.dumps(schedule)
            existing = before.get(spec.name)
            goes_on = existing is not None and (
                schedule.cron or existing.revision == app.revision.id
            )
            try:
                next_at = timing.after(schedule, now, now)
            except timing.UNREADABLE:  # the other schedules continue
                why = f"is not run: this machine cannot follow {schedule.text}"
                self._log(app.owner, spec.name, why)
                continue
            if existing is not None and existing.schedule == text and goes_on:
                rows[spec.name] = dataclasses.replace(existing, revision=app.revision.id)
            elif next_at is not None:
                rows[spec.name] = ScheduleRow(
                    app=app.name,
                    **columns(app.scope),
                    function=spec.name,
                    revision=app.revision.id,
                    schedule=text,
                    anchored_at=now,
                    next_at=next_at,
                )
        if rows != before:
            await self._rows.replace(app.scope, app.name, list(rows.values()))
            self._apps[app.owner] = rows
        self._revisions[app.owner] = app.revision.id

    async def _forget(self, app: Owner) -> None:
        """An app has been stopped: its schedules go."""
        if self._apps.get(app):
            await self._rows.replace(app.scope, app.name, [])
        self._apps.pop(app, None)
        self._revisions.pop(app, None)

    async def _due(self, row: ScheduleRow, now: float) -> None:
        """Run a function for the last time that is not too late; the times before that are left out."""
        schedule = codec.loads(Schedule, row.schedule)
        next_at = timing.after(schedule, row.anchored_at, now)
        if next_at is None:  # it was the last time in 50 years
            next_at = now + timing.DAY_S
        since = max(now - LATE_S, row.next_at - 0.001)
        due_at = timing.last(schedule, row.anchored_at, since, now)
        if due_at is None or due_at > row.next_at:
            self._log(
                _owner(row),
                row.function,
                f"was not run at {_utc(row.next_at)}: the server did not run then",
            )
        if due_at is None:
            self._keep(row, await self._rows.move(row, next_at))
            return
        key = self._key(row.scope)
        call = CallRow(
            id=call_id(row.app, row.function, due_at, key),
            endpoint=calls.endpoint_id(row.app, row.function, key=key),
            app=row.app,
            workspace=row.scope.workspace,
            environment=row.scope.environment,
            tag=row.function,
            python=".".join(platform.python_version_tuple()[:2]),
            due_at=now,
            created_at=now,
        )
        saved, was_made = await self._rows.run(row, next_at, call, NO_ARGUMENTS)
        self._keep(row, saved)
        if saved is None:
            return
        function = (_owner(row), row.function)
        if was_made:
            self._waiting.discard(function)
            self._spawned.sender.added([(call, NO_ARGUMENTS)])
        elif saved.last_call != call.id and function not in self._waiting:
            self._waiting.add(function)  # logged once, and not at each time
            self._log(
                _owner(row),
                row.function,
                f"was not run at {_utc(due_at)}: the run before has not begun yet",
            )

    async def _went_back(self, row: ScheduleRow, now: float) -> None:
        """The machine's clock was ahead: a time that it has seen is in the future again.

        A time that has had its call gets no second one, because both calls would have the same id.
        """
        schedule = codec.loads(Schedule, row.schedule)
        next_at = timing.after(schedule, row.anchored_at, now)
        if next_at is not None and next_at < row.next_at:
            self._keep(row, await self._rows.move(row, next_at))

    def _keep(self, before: ScheduleRow, row: ScheduleRow | None) -> None:
        """Keep the row that the database has; None: it has another row by now, so read it again."""
        if row is not None:
            self._apps[_owner(before)][before.function] = row
            return
        self._is_stale = True
        self._soon.set()

    def _log(self, app: Owner, function: str, what: str) -> None:
        text = f"the scheduled function {what}"
        line = LogLine(
            at=self._clock(),
            app=app.name,
            function=function,
            container="",
            text=text,
            source="system",
            within=app.scope,
        )
        self._say(line)
        log.warning("`%s` of `%s`: %s", function, app.name, text)


def _owner(row: ScheduleRow) -> Owner:
    return Owner.app(row.scope, row.app)


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
