"""The audit log: a row for each change of this server, or try of one. The API reads rows, and adds nothing by itself.

A row that cannot be written goes to the server's log, whole; the command continues. Most commands write to the same
database, so they have failed already. One that stops something must not be refused because the disk is full.

Rows older than the setting `audit_days` are deleted, and so are the oldest of a caller that has more than MOST_OF_ONE: a
flood of one caller's rows pushes out no other's.
"""

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from homeport.contract.api.audit import MOST_ROWS, AuditEntry, AuditQuery
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import StorageError
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.numbers import Numbers
from homeport.supervised import Tasks, supervised

MOST_OF_ONE = 10_000  # rows of one token, of a workspace's containers, of the server's own user
MOST = 200_000
TRIM_S = 3600.0
TRIM_ROWS = 1000  # after so many new ones, old rows are deleted too
DAY_S = 86400.0
LONGEST = {"user": 64, "token": 64, "source": 64, "action": 64, "result": 32, "app": 64, "target": 512}  # fmt: skip
_T = tables.audit
_INSERT = insert(_T)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The rows that a caller may see; None: all."""

    workspace: str
    environments: frozenset[str] | None = None
    since: float = 0.0  # of a workspace: a name may have belonged to an earlier one


class Audit:
    """The rows of the audit log."""

    def __init__(
        self, database: Database, *, days: float, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._days = days
        self._now = now
        self._numbers = Numbers(_T.c.id)
        self._added = 0
        self._many = asyncio.Event()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to delete old rows."""
        self._tasks.start(
            "the audit log", supervised("the audit log", self._keep_short, expected=StorageError)
        )

    async def close(self) -> None:
        """Delete no more rows."""
        await self._tasks.close()

    async def add(self, entry: AuditEntry) -> int | None:
        """Write a row; return its number, None if it is in the server's log instead. `entry.id` and `entry.at` do not count."""
        values = _values(dataclasses.replace(entry, at=self._now()))

        def work(connection: Connection) -> int:
            number = self._numbers.take(connection)
            connection.execute(_INSERT, {**values, "id": number})
            return number

        try:
            number = await self._database.together(work)
        except Exception as error:
            _say(values, error)
            return None
        self._added += 1
        if self._added >= TRIM_ROWS:
            self._many.set()
        return number

    async def end(self, number: int | None, entry: AuditEntry) -> None:
        """Write how something ended whose row says that it has begun."""
        values = _values(entry)
        if number is None:  # its beginning is in the server's log, too
            _say(values, None)
            return
        changes = {name: values[name] for name in ("result", "app", "target")}
        query = update(_T).where(_T.c.id == number).values(**changes)
        try:
            await self._database.together(lambda c: c.execute(query))
        except Exception as error:
            _say(values, error)

    async def last(self, query: AuditQuery, visible: Seen | None) -> list[AuditEntry]:
        """Return the newest rows that a query and `visible` let through, the newest last."""
        columns = [_T.c[field.name] for field in dataclasses.fields(AuditEntry)]
        newest = select(*columns).where(*_conditions(query, visible)).order_by(_T.c.id.desc())
        newest = newest.limit(min(query.tail, MOST_ROWS))
        rows = await self._database.read(lambda c: list(c.execute(newest).mappings()))
        return [AuditEntry(**row) for row in reversed(rows)]

    async def trim(self) -> None:
        """Delete the rows that are too old, or too many."""
        oldest = self._now() - self._days * DAY_S
        await self._database.write(lambda c: _trim(c, oldest))

    async def _keep_short(self) -> None:
        while True:
            await self.trim()
            self._added = 0
            self._many.clear()
            try:
                async with asyncio.timeout(TRIM_S):
                    await self._many.wait()
            except TimeoutError:
                continue


def write(database: Database, entry: AuditEntry) -> None:
    """Write a row from a process that is no server, as `homeport backup` is; blocks."""
    with database.writing() as connection:
        number = Numbers(_T.c.id).take(connection)
        values = _values(dataclasses.replace(entry, at=time.time()))
        connection.execute(_INSERT, {**values, "id": number})


def printable(text: str, longest: int) -> str:
    """Return a text that forges no line and no colour, wherever it is printed.

    >>> printable("a\\nb\\x1b[31m \\u202ec", 64)
    'a\\\\u000ab\\\\u001b[31m \\\\u202ec'
    """
    escaped = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:longest])
    return escaped if len(escaped) <= longest else escaped[: longest - 1] + "…"


def _values(entry: AuditEntry) -> dict[str, object]:
    values = dataclasses.asdict(entry)
    for name, longest in LONGEST.items():
        values[name] = printable(values[name], longest)
    return values


def _say(values: dict[str, object], error: Exception | None) -> None:
    why = f" ({error})" if error else ""
    log.error("a row of the audit log is not in the database%s: %s", why, json.dumps(values))


def _conditions(query: AuditQuery, visible: Seen | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.since:
        conditions.append(_T.c.at >= query.since)
    if query.user:
        callers = (_T.c.user, _T.c.token, _T.c.by)
        conditions.append(or_(*(column == query.user for column in callers)))
    if query.app:
        conditions.append(_T.c.app == query.app)
    if query.environment:
        conditions.append(_T.c.environment == query.environment)
    if visible is not None:
        conditions += [_T.c.workspace == visible.workspace, _T.c.at >= visible.since]
        if visible.environments is not None:
            conditions.append(_T.c.environment.in_(visible.environments))
    return conditions


def _trim(connection: Connection, oldest: float) -> None:
    connection.execute(delete(_T).where(_T.c.at < oldest))
    owner_columns = (_T.c.workspace, _T.c.by, _T.c.token)
    many = select(*owner_columns).group_by(*owner_columns).having(func.count() > MOST_OF_ONE)
    for caller in connection.execute(many).all():
        of_one = [column == value for column, value in zip(owner_columns, caller, strict=True)]
        _delete_all_but(connection, MOST_OF_ONE, *of_one)
    _delete_all_but(connection, MOST)


def _delete_all_but(connection: Connection, count: int, *where: ColumnElement[bool]) -> None:
    """Delete all but the newest rows of these."""
    last = select(_T.c.id).where(*where).order_by(_T.c.id.desc()).offset(count).limit(1)
    if (number := connection.scalar(last)) is not None:
        connection.execute(delete(_T).where(*where, _T.c.id <= number))
