"""Schedules of deployed functions: when each is due next.

A run is a spawned call, and its row is written in the transaction that moves the schedule on. The call's id is made of
the app, the function and the time, so one time never makes two calls, whatever happened to the server or its clock.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, Update, and_, delete, insert, select, update

from homeport.contract.dataclass import dataclass
from homeport.state import tables
from homeport.state.calls import CallRow, Calls
from homeport.state.database import Database
from homeport.state.scope import MAIN, Placed, Scope, columns

_T = tables.schedules


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow(Placed):
    """One function's schedule."""

    app: str
    function: str
    revision: str
    schedule: str  # as JSON
    anchored_at: float
    next_at: float
    last_call: str = ""
    workspace: str = MAIN.workspace
    environment: str = MAIN.environment


def call_id(app: str, function: str, due_at: float, key: str) -> str:
    """Return the id of the call that runs a function at a time: it begins with that time, as those of `.spawn` do.

    `key` is the environment's: otherwise others could save a call with this id before, and the function would not run.

    >>> call_id("shop", "f", 1.5, "a secret")
    'fc-0000000059682f004e21eacafea147811a0057943d12d24f'
    """
    digest = hashlib.sha256(f"{key}\0{app}\0{function}\0{due_at:.3f}".encode()).hexdigest()
    return f"fc-{round(due_at * 1000) * 1_000_000:016x}{digest[:32]}"


class Schedules:
    """The schedules of all environments."""

    def __init__(self, database: Database, calls: Calls) -> None:
        self._database = database
        self._calls = calls

    async def all(self) -> list[ScheduleRow]:
        """Return every schedule."""
        query = select(_T)
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [ScheduleRow(**row) for row in rows]

    async def replace(self, scope: Scope, app: str, rows: Sequence[ScheduleRow]) -> None:
        """Save an app's schedules; those that it had before go."""

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(tables.here(_T, scope), _T.c.app == app))
            if rows:
                values = [{**dataclasses.asdict(row), **columns(scope)} for row in rows]
                connection.execute(insert(_T), values)

        await self._database.write(work)

    async def move(self, row: ScheduleRow, next_at: float) -> ScheduleRow | None:
        """Save another next time, without a run; None if the schedule has changed meanwhile."""
        change = self._changed(row, next_at=next_at)
        was_saved = await self._database.write(lambda c: c.execute(change).rowcount == 1)
        return dataclasses.replace(row, next_at=next_at) if was_saved else None

    async def run(
        self, row: ScheduleRow, next_at: float, call: CallRow, body: bytes
    ) -> tuple[ScheduleRow | None, bool]:
        """Save a run and the next time together.

        Returns the schedule as it is now, None if it has changed meanwhile, and whether there is a new call. There is
        none if that time has had one, or while the run before waits for a container.
        """

        def work(connection: Connection) -> tuple[ScheduleRow | None, bool]:
            waits = bool(row.last_call) and self._calls.is_waiting(connection, row.last_call)
            last = row.last_call if waits else call.id
            change = self._changed(row, next_at=next_at, last_call=last)
            if connection.execute(change).rowcount != 1:
                return None, False
            was_made = not waits and self._calls.insert_small(connection, call, body)
            return dataclasses.replace(row, next_at=next_at, last_call=last), was_made

        return await self._database.write(work)

    def _changed(self, row: ScheduleRow, **values: object) -> Update:
        this = and_(_T.c.app == row.app, _T.c.function == row.function)
        same = and_(_T.c.next_at == row.next_at, _T.c.revision == row.revision)
        return update(_T).where(tables.here(_T, row.scope), this, same).values(**values)
