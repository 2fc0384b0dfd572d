"""Versions that serve, or have served, a part of an app's requests beside another version: `homeport deploy --canary`.

The rows are in memory too, because every list of apps shows them. A row goes with its revision.
"""

import dataclasses

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from homeport.contract.dataclass import dataclass
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import Scope, columns

RUNNING, PROMOTED, ROLLED_BACK = "running", "promoted", "rolled back"
_T = tables.canaries
AppKey = tuple[Scope, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRow:
    """One canary. Times are in seconds since the epoch."""

    app: str
    version: int
    revision: str
    before: int  # the version that it is compared with
    per_mille: int  # of the requests
    began_at: float
    ends_at: float  # when it is promoted if nothing is wrong
    state: str = RUNNING  # or `promoted`, `rolled back`
    ended_at: float | None = None
    reason: str = ""  # why it has ended
    counts: str = ""  # of one that has ended: what was counted, as JSON

    @property
    def is_running(self) -> bool:
        """True while it gets a part of the requests."""
        return self.state == RUNNING


class Canaries:
    """The canaries of all apps."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all: dict[AppKey, dict[int, CanaryRow]] = {}  # by version

    async def load(self) -> None:
        """Read the rows."""
        query = select(_T).order_by(_T.c.version)
        self._all = {}
        for row in await self._database.read(lambda c: list(c.execute(query).mappings())):
            values = dict(row)
            scope = Scope(values.pop("workspace"), values.pop("environment"))
            self.note(scope, CanaryRow(**values))

    def last(self, app: AppKey) -> CanaryRow | None:
        """Return the newest canary of an app; None if it had none."""
        rows = self._all.get(app)
        return rows[max(rows)] if rows else None

    def latest(self, scope: Scope) -> list[CanaryRow]:
        """Return the newest canary of each app of an environment that had one."""
        return [rows[max(rows)] for app, rows in self._all.items() if app[0] == scope and rows]

    def of(self, app: AppKey) -> dict[int, CanaryRow]:
        """Return the canaries of an app, by version."""
        return dict(self._all.get(app, {}))

    async def put(self, scope: Scope, row: CanaryRow) -> None:
        """Write a row, or replace that of the same version."""
        values = {**columns(scope), **dataclasses.asdict(row)}

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(_this(scope, row)))
            connection.execute(insert(_T), [values])

        await self._database.write(work)
        self.note(scope, row)

    async def remove(self, scope: Scope, row: CanaryRow) -> None:
        """Remove a row: its version never got a request."""
        if self._all.get((scope, row.app), {}).pop(row.version, None) is not None:
            query = delete(_T).where(_this(scope, row))
            await self._database.write(lambda c: c.execute(query))

    def drop(self, scope: Scope) -> None:
        """Drop the apps of an environment whose rows were deleted."""
        self._all = {app: rows for app, rows in self._all.items() if app[0] != scope}

    def note(self, scope: Scope, row: CanaryRow) -> None:
        """Remember a row, also if it cannot be written."""
        self._all.setdefault((scope, row.app), {})[row.version] = row


def _this(scope: Scope, row: CanaryRow) -> ColumnElement[bool]:
    return and_(tables.here(_T, scope), _T.c.app == row.app, _T.c.version == row.version)
