"""Keeps the last cold starts of each app, with the time of each part.

The reconciler adds each start that has ended. The ingress adds, perhaps much later, how long the container's
first request took. Both are kept in memory at once and written to the database a little later, so no request
waits for a write. If the database fails, only the cold starts of this server are lost for a later one.
"""

import asyncio
import dataclasses
import logging
import shutil
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select

from homeport.contract import codec
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure, StorageError
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import MAIN, Scope, columns
from homeport.supervised import Tasks

KEPT = 100  # how many starts of an app are kept
#: Delay of a write: by then the first byte is usually known, and the row is written once.
LATER_S = 2.0
AGAIN_S = 30.0  # before the next try after a failed write
FIRST_BYTE = "first_byte"

log = logging.getLogger(__name__)


AppKey = tuple[Scope, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """One start of a container, ready or failed.

    The parts follow each other without a gap: parked, scheduled, forked, imported, entered,
    listening, attached, first_byte. A part that was not reached, or is not known, is missing.
    """

    at: float  # when the first request came that waited for it, in seconds since the epoch
    app: str
    function: str
    container: str
    revision: str
    origin: str  # fresh, forked, snapshot
    why_fresh: str = ""
    failed: str = ""  # why it did not become ready
    timings_ms: dict[str, float] = field(default_factory=dict)
    imports_ms: dict[str, float] = field(default_factory=dict)  # the slowest, by module
    within: Scope = MAIN  # the environment of the app

    @property
    def key(self) -> "AppKey":
        """The app, in its environment."""
        return self.within, self.app


class ColdStarts:
    """The cold starts of all apps."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent: dict[
            AppKey, dict[str, ColdStart]
        ] = {}  # app -> container -> start, since the start
        self._unanswered: dict[str, AppKey] = {}  # container -> app
        self._unwritten: dict[str, AppKey] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._tasks = Tasks()

    def add(self, start: ColdStart) -> None:
        """Add a start that has ended."""
        recent = self._recent.setdefault(start.key, {})
        recent[start.container] = start
        if not start.failed:
            self._unanswered[start.container] = start.key
        while len(recent) > KEPT:
            oldest = next(iter(recent))
            del recent[oldest]
            self._unanswered.pop(oldest, None)
            self._unwritten.pop(oldest, None)
        self._write_later(start)

    def answered(self, container: str, ms: float) -> None:
        """Add how long the container took from its first request to the first byte of the response."""
        if (app := self._unanswered.pop(container, None)) is None:
            return  # the container was adopted: an earlier server may have seen its first request
        start = self._recent[app][container]
        start = dataclasses.replace(start, timings_ms={**start.timings_ms, FIRST_BYTE: ms})
        self._recent[app][container] = start
        self._write_later(start)

    async def last(self, scope: Scope, app: str, count: int, function: str = "") -> list[ColdStart]:
        """Return the last starts of an app, or of one of its functions, the oldest first.

        Without the database, only the starts since the server started.
        """
        try:
            texts = await self._database.read(lambda c: self._texts(c, (scope, app)))
        except StorageError:
            texts = []
        starts = {start.container: start for start in _decoded(texts)}
        starts.update(self._recent.get((scope, app), {}))
        latest = sorted(starts.values(), key=lambda start: start.at)[-KEPT:]
        return [start for start in latest if function in ("", start.function)][-count:]

    async def of_container(self, scope: Scope, app: str, container: str) -> ColdStart | None:
        """Return the start of one container of an app; None if it is not kept."""
        if recent := self.recent(scope, app, container):
            return recent
        t = tables.cold_starts
        statement = select(t.c.start).where(_of((scope, app)), t.c.container == container)
        try:
            texts = await self._database.read(lambda c: list(c.scalars(statement)))
        except StorageError:
            return None
        return next(iter(_decoded(texts)), None)

    def recent(self, scope: Scope, app: str, container: str) -> ColdStart | None:
        """Return the start of a container; None if it began before this server, or very many have begun since."""
        return self._recent.get((scope, app), {}).get(container)

    def drop(self, scope: Scope) -> None:
        """Drop the starts of an environment from memory, before its rows are deleted."""
        self._recent = {app: starts for app, starts in self._recent.items() if app[0] != scope}
        for containers in (self._unanswered, self._unwritten):
            for container in [c for c, app in containers.items() if app[0] == scope]:
                del containers[container]

    def move_in(self, folder: Path) -> None:
        """Start moving the files of an earlier homeport (`<app>.jsonl`) into the database."""
        if folder.is_dir():
            self._tasks.start("moving cold starts into the database", self._move_in(folder))

    async def close(self) -> None:
        """Write the starts that are not written yet."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        await self._write()

    def _write_later(self, start: ColdStart) -> None:
        self._unwritten[start.container] = start.key
        if self._timer is None:
            self._set_timer(LATER_S)

    def _set_timer(self, wait_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._begin_write)

    def _begin_write(self) -> None:
        self._timer = None
        self._tasks.start("writing cold starts", self._write())

    async def _write(self) -> None:
        names, self._unwritten = self._unwritten, {}
        starts = [self._recent[app][container] for container, app in names.items()]
        if not starts:
            return
        try:
            await self._database.write(lambda c: self._save(c, starts))
        except Failure as failure:
            if not self._failing:
                log.warning("cold starts are not kept: %s", failure.message)
            self._failing = True
            still = {c: app for c, app in names.items() if c in self._recent.get(app, {})}
            self._unwritten = {**still, **self._unwritten}
            if self._timer is None:
                self._set_timer(AGAIN_S)
            return
        self._failing = False

    def _texts(self, connection: Connection, app: AppKey) -> list[str]:
        t = tables.cold_starts
        newest = select(t.c.start).where(_of(app)).order_by(t.c.at.desc()).limit(KEPT)
        return list(connection.scalars(newest))

    def _save(self, connection: Connection, starts: Iterable[ColdStart]) -> None:
        t, apps = tables.cold_starts, set()
        for start in starts:
            apps.add(start.key)
            text = codec.dumps(start).encode("utf-8", "replace").decode()  # no lone surrogates
            connection.execute(delete(t).where(t.c.container == start.container))
            row = {"container": start.container, "app": start.app, "at": start.at, "start": text}
            connection.execute(insert(t).values(**columns(start.within), **row))
        for app in apps:
            newest = select(t.c.container).where(_of(app)).order_by(t.c.at.desc()).limit(KEPT)
            newest_containers = list(connection.scalars(newest))
            connection.execute(delete(t).where(_of(app), t.c.container.not_in(newest_containers)))

    async def _move_in(self, folder: Path) -> None:
        starts = await asyncio.to_thread(_read_files, folder)
        await self._database.write(lambda c: self._save(c, starts))
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _of(key: AppKey) -> Any:
    t, (scope, app) = tables.cold_starts, key
    return and_(t.c.app == app, tables.here(t, scope))


def _decoded(lines: Iterable[str]) -> list[ColdStart]:
    """Return the starts in these lines of JSON; skip incomplete lines and those of other versions."""
    starts = []
    for line in lines:
        try:
            starts.append(codec.loads(ColdStart, line))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return starts


def _read_files(folder: Path) -> list[ColdStart]:
    starts: dict[str, ColdStart] = {}  # a start may be in a file twice: the later line counts
    for path in folder.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        starts.update((start.container, start) for start in _decoded(lines))
    return list(starts.values())
