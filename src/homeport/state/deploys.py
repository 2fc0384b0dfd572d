"""Each try to change what an app serves: its user, its time, and how it ended. The newest ones of each app are kept.

A row that cannot be written is missing; the deploy continues, and reports by itself if the database cannot be written.
"""

import dataclasses
import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select, update

from homeport.contract.api.deploys import DeployRecord
from homeport.contract.errors import StorageError
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.numbers import Numbers
from homeport.state.scope import Scope, columns

KEPT = 200  # of each app
LONGEST = 8_000  # of a reason
MOST = 1_000  # of one answer
RUNNING, OK, SKIPPED, INTERRUPTED = "running", "ok", "skipped", "interrupted"
_T = tables.deploys

log = logging.getLogger(__name__)


class Deploys:
    """The deploys of all apps."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._numbers = Numbers(_T.c.id)

    async def interrupt(self) -> None:
        """Say of those that an earlier server has begun that they have not ended."""
        unfinished = select(func.count()).select_from(_T).where(_T.c.result == RUNNING)
        if not await self._database.read(lambda c: c.scalar(unfinished)):
            return  # nothing is written at most starts
        query = update(_T).where(_T.c.result == RUNNING)
        values = {"result": INTERRUPTED, "reason": "the server ended", "ended_at": self._now()}
        await self._tried(lambda c: c.execute(query.values(**values)))

    async def begin(
        self, scope: Scope, app: str, kind: str, *, tag: str = "", by: str, user: str = ""
    ) -> int | None:
        """Note that a change begins; return its number, None if it could not be written."""
        values = {"app": app, "kind": kind, "at": self._now(), "tag": tag[:50], "by": by}
        values |= {"user": user[:64], "result": RUNNING, "reason": ""}
        number: list[int] = []

        def work(connection: Connection) -> None:
            number[:] = [self._numbers.take(connection)]
            connection.execute(insert(_T).values(**columns(scope), **values, id=number[0]))
            here = (tables.here(_T, scope), _T.c.app == app)
            last = select(_T.c.id).where(*here).order_by(_T.c.id.desc()).offset(KEPT).limit(1)
            if (old := connection.scalar(last)) is not None:
                connection.execute(delete(_T).where(*here, _T.c.id <= old))

        return number[0] if await self._tried(work) else None

    async def end(
        self, number: int | None, result: str, *, version: int | None = None, reason: str = ""
    ) -> None:
        """Note how it ended."""
        if number is None:
            return
        values = {"result": result[:32], "version": version, "ended_at": self._now()}
        query = update(_T).where(_T.c.id == number).values(**values, reason=reason[:LONGEST])
        await self._tried(lambda c: c.execute(query))

    async def last(self, scope: Scope, app: str = "", count: int = MOST) -> list[DeployRecord]:
        """Return the last ones of an environment, or of one app of it, the newest first."""
        names = [field.name for field in dataclasses.fields(DeployRecord)]
        query = select(*(_T.c[name] for name in names)).where(tables.here(_T, scope))
        if app:
            query = query.where(_T.c.app == app)
        query = query.order_by(_T.c.id.desc()).limit(min(count, MOST))
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [DeployRecord(**row) for row in rows]

    async def deployers(
        self, scope: Scope, app: str = "", since: float = 0.0
    ) -> dict[tuple[str, int], tuple[str, str]]:
        """Return who made a version, by app and version: `by` and `user`; `since`: of those that ended since then."""
        query = select(_T.c.app, _T.c.version, _T.c.by, _T.c.user).where(tables.here(_T, scope))
        query = query.where(_T.c.version.is_not(None), _T.c.result == OK, _T.c.ended_at >= since)
        if app:
            query = query.where(_T.c.app == app)
        rows = await self._database.read(lambda c: list(c.execute(query.order_by(_T.c.id))))
        return {(row.app, row.version): (row.by, row.user) for row in rows}

    async def _tried(self, work: Callable[[Connection], object]) -> bool:
        try:
            await self._database.write(work)
        except StorageError as error:
            log.warning("the history of deploys is not written: %s", error.message)
            return False
        return True
