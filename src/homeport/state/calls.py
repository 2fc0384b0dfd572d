"""Spawned calls: a row from `.spawn` until seven days after the outcome.

    waiting ──claim──▶ running ──finish──▶ done | failed
       ▲                  │
       └─────again────────┘          every state but the last ones ──cancel──▶ cancelled

A container claims an attempt before it runs it, and each change names the attempt: so one attempt runs once, and a late
report changes nothing. Inputs and outcomes above 16 KiB are files in the home's `calls`.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    delete,
    exists,
    select,
    true,
    update,
)

from homeport import private
from homeport.contract.calls import endpoint_id
from homeport.contract.errors import NotFound, StorageError
from homeport.state import call_statements as statements
from homeport.state import tables
from homeport.state.call_rows import (
    CANCELLED,
    COLUMNS,
    DONE,
    ENDED,
    FAILED,
    NAMES,
    RUNNING,
    WAITING,
    CallRow,
    Outcome,
    is_small,
)
from homeport.state.database import Database
from homeport.state.ready import Ready
from homeport.state.scope import Scope

KEPT_S = 7 * 24 * 3600.0
_T = tables.calls

__all__ = [
    "CANCELLED", "DONE", "ENDED", "FAILED", "RUNNING", "WAITING",
    "CallRow", "Calls", "Outcome",
]  # fmt: skip


class Calls:
    """The calls of all environments, for the dispatcher; `of` returns those of one environment, for all other callers.

    One class, because each method is one short transaction on the same table.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        scope: Scope | None = None,
        room: statements.Room | None = None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._scope = scope
        self._room = room or statements.Room()
        self._statements = statements.OF_ALL if scope is None else statements.OF_SCOPE
        #: The parameters of OF_SCOPE.
        self._within = (
            {} if scope is None else {"within": scope.workspace, "inside": scope.environment}
        )

    def of(self, scope: Scope) -> "Calls":
        """Return the calls of one environment; those of others do not exist there."""
        return Calls(self._database, self._folder, scope=scope, room=self._room)

    async def add(self, rows: Sequence[CallRow], inputs: Sequence[bytes]) -> bool:
        """Save calls, all or none; False if they are known already."""
        this_call = {"call": rows[0].id}
        # A caller that knows the id of another environment's call must not replace the files of its inputs.
        if not all(map(is_small, inputs)) and await self._exists(this_call):
            return False
        values = []
        for row, body in zip(rows, inputs, strict=True):
            small = is_small(body)
            if not small:
                await asyncio.to_thread(self._write, self._input(row.id, row.place), body)
            values.append({**_values(row), "input": body if small else None})

        def work(connection: Connection) -> bool:
            if statements.KNOWN.rows(connection, this_call):
                return False
            self._room.take(connection, rows[0].workspace, len(values))
            statements.ADD.all(connection, values)
            return True

        return await self._database.together(work)

    def insert_small(self, connection: Connection, row: CallRow, body: bytes) -> bool:
        """Save a call with a small input in the caller's transaction; False if it is known already."""
        if statements.KNOWN.rows(connection, {"call": row.id}):
            return False
        statements.ADD.all(connection, [{**_values(row), "input": body}])
        return True

    def is_waiting(self, connection: Connection, call: str) -> bool:
        """Return whether a call waits for a container, in the caller's transaction."""
        query = self._this(call, select(_T.c.id)).where(_T.c.state == WAITING)
        return connection.execute(query).first() is not None

    async def find(self, call: str) -> list[CallRow]:
        """Return a call's rows, one for each input; `NotFound` for an unknown call."""
        query = self._this(call, select(*COLUMNS)).order_by(_T.c.place)
        rows = await self._rows(query)
        if not rows:
            raise NotFound(f"there is no call `{call[:80]}`", hint="results are kept for 7 days")
        return rows

    async def one(self, call: str, place: int) -> CallRow | None:
        """Return the row of one input; None for an unknown one."""
        here = {**self._within, "call": call, "at": place}
        rows = await self._database.read_together(lambda c: self._statements.row.rows(c, here))
        return CallRow(**dict(zip(NAMES, rows[0], strict=True))) if rows else None

    async def input(self, row: CallRow) -> bytes:
        """Return the arguments."""
        query = self._this(row.id, select(_T.c.input), row.place)
        body = await self._database.read(lambda c: c.scalar(query))
        if body is None:
            body = await asyncio.to_thread(_read, self._input(row.id, row.place))
        return bytes(body)

    async def outcome(self, call: str, place: int) -> Outcome | None:
        """Return a call's outcome; None before the call has ended."""
        here = {**self._within, "call": call, "at": place}
        rows = await self._database.read_together(lambda c: self._statements.outcome.rows(c, here))
        if not rows:
            raise NotFound(f"there is no call `{call[:80]}`", hint="results are kept for 7 days")
        ((state, attempt, kind, python, body),) = rows
        if state not in ENDED:
            return None
        if body is None:
            body = await asyncio.to_thread(self._read_outcome, call, place, attempt)
        return Outcome(kind=kind, python=python, body=bytes(body))

    async def endpoints(self) -> list[str]:
        """Return the endpoints that calls wait for, now or later."""
        query = select(_T.c.endpoint).where(self._here(), _T.c.state == WAITING)
        return await self._database.read(lambda c: list(c.scalars(query.distinct())))

    async def due(self, endpoint: str, now: float, most: int) -> list[tuple[CallRow, bytes | None]]:
        """Return the calls of an endpoint that wait, those that are due first, each with its input if that is small."""
        here = {"of": endpoint, "now": now, "most": most}

        def work(connection: Connection) -> list[tuple[CallRow, bytes | None]]:
            rows = connection.execute(statements.DUE, here).all()
            return [(CallRow(**dict(zip(NAMES, row, strict=False))), row[-1]) for row in rows]

        return await self._database.read(work)

    async def next_due(self, endpoint: str, now: float) -> float | None:
        """Return when the next call of an endpoint is due that waits for a time."""
        here = {"of": endpoint, "now": now}
        return await self._database.read_together(lambda c: c.scalar(statements.NEXT_DUE, here))

    async def hasten(self, latest: float, *, due_at: float) -> None:
        """Let the calls that wait for a time after `latest` be due at another one."""
        late = (self._here(), _T.c.state == WAITING, _T.c.due_at > latest)
        if await self._database.read(lambda c: c.scalar(select(exists().where(*late)))):
            await self._execute(update(_T).where(*late).values(due_at=due_at))

    async def are_open(self, endpoints: Collection[str]) -> bool:
        """Return whether a call of one of these endpoints waits or runs."""
        query = (
            select(_T.c.id)
            .where(self._here(), _T.c.state.in_((WAITING, RUNNING)), _T.c.endpoint.in_(endpoints))
            .limit(1)
        )
        return await self._database.read(lambda c: c.execute(query).first() is not None)

    async def running(self) -> list[CallRow]:
        """Return the calls that containers have claimed."""
        return await self._rows(select(*COLUMNS).where(self._here(), _T.c.state == RUNNING))

    async def claim(self, call: str, place: int, attempt: int, container: str) -> bool:
        """Give an attempt to a container, or say that it has it already; False if it is another one's, or over."""
        changes = {"by": container, "now": time.time()}
        return await self._change(self._statements.claim, (call, place, attempt), changes)

    async def finish(self, call: str, place: int, attempt: int, outcome: Outcome) -> bool:
        """Save how a call ended; False if it was not waiting or running in this attempt."""
        small = is_small(outcome.body)
        if not small:
            path = self._outcome(call, place, attempt)
            await asyncio.to_thread(self._write, path, outcome.body)
        changes = {
            "then": DONE if outcome.kind == "value" else FAILED,
            "how": outcome.kind,
            "by": outcome.python,
            "body": outcome.body if small else None,
            "now": time.time(),
        }
        return await self._change(self._statements.finish, (call, place, attempt), changes)

    async def again(self, call: str, place: int, attempt: int, due_at: float, note: str) -> bool:
        """Let a call wait for its next attempt."""
        changes = {"due": due_at, "why": note}
        return await self._change(self._statements.again, (call, place, attempt), changes)

    async def postpone(self, row: CallRow, due_at: float, note: str) -> bool:
        """Let a call that no container has claimed wait longer."""
        key, changes = (row.id, row.place, row.attempt), {"due": due_at, "why": note}
        return await self._change(self._statements.postpone, key, changes)

    async def cancel(self, call: str) -> list[CallRow]:
        """Cancel the inputs that have not ended; return these rows, as they were."""
        query = self._this(call, select(*COLUMNS)).where(_T.c.state.in_((WAITING, RUNNING)))
        change = update(_T).where(self._here(), _T.c.id == call, _T.c.state.in_((WAITING, RUNNING)))
        values = {"state": CANCELLED, "kind": CANCELLED, "outcome": b"", "ended_at": time.time()}

        def work(connection: Connection) -> list[CallRow]:
            rows = [CallRow(**row) for row in connection.execute(query).mappings()]
            connection.execute(change.values(**values))
            return rows

        return await self._database.together(work)

    async def latest(self, app: str, state: str, most: int) -> list[CallRow]:
        """Return calls, the newest first; empty values mean any."""
        query = select(*COLUMNS).where(self._here())
        if app:
            query = query.where(_T.c.app == app)
        if state:
            query = query.where(_T.c.state == state)
        return await self._rows(query.order_by(_T.c.created_at.desc()).limit(most))

    async def children(self, call: str) -> list[CallRow]:
        """Return the calls that a call has made."""
        query = select(*COLUMNS).where(self._here(), _T.c.parent == call)
        return await self._rows(query.order_by(_T.c.created_at, _T.c.place))

    async def readdress(self, key: str) -> None:
        """Give calls that an earlier homeport has saved the ids that endpoints of MAIN have now, by its key."""
        columns = (_T.c.endpoint, _T.c.app, _T.c.tag)
        query = select(*columns).where(_T.c.state.in_((WAITING, RUNNING))).distinct()
        for endpoint, app, tag in await self._database.read(lambda c: c.execute(query).all()):
            if endpoint == endpoint_id(app, tag, key="main"):
                change = update(_T).where(_T.c.endpoint == endpoint)
                change = change.values(endpoint=endpoint_id(app, tag, key=key))
                await self._execute(change)

    async def _exists(self, this_call: dict[str, str]) -> bool:
        return bool(
            await self._database.read_together(lambda c: statements.KNOWN.rows(c, this_call))
        )

    async def _execute(self, change: Update) -> None:
        await self._database.write(lambda c: c.execute(change))

    async def sweep(self) -> None:
        """Delete calls that ended more than seven days ago, and files of no call."""
        old = _T.c.ended_at < time.time() - KEPT_S
        await self._database.write(lambda c: c.execute(delete(_T).where(old)))
        query = select(_T.c.id, _T.c.place)
        known_files = await self._database.read(lambda c: {f"{i}-{p}" for i, p in c.execute(query)})
        await asyncio.to_thread(self._remove_unknown, known_files)

    async def _change(
        self, change: Ready, key: tuple[str, int, int], changes: dict[str, Any]
    ) -> bool:
        call, place, attempt = key
        values = {**self._within, "call": call, "at": place, "this_attempt": attempt, **changes}
        return await self._database.together(lambda c: change.changed(c, values) == 1)

    async def _rows(self, query: Any) -> list[CallRow]:
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [CallRow(**row) for row in rows]

    def _this(self, call: str, query: Any, place: int | None = None) -> Any:
        query = query.where(self._here(), _T.c.id == call)
        return query if place is None else query.where(_T.c.place == place)

    def _here(self) -> ColumnElement[bool]:
        if self._scope is None:
            return true()
        return tables.here(_T, self._scope)

    def _input(self, call: str, place: int) -> Path:
        return self._folder / f"{call}-{place}.in"

    def _outcome(self, call: str, place: int, attempt: int) -> Path:
        """Return the file for an attempt's outcome: a late attempt must not replace that of a later one."""
        return self._folder / f"{call}-{place}.{attempt}.out"

    def _read_outcome(self, call: str, place: int, attempt: int) -> bytes:
        path = self._outcome(call, place, attempt)
        if not path.exists():  # an earlier homeport wrote it
            path = self._folder / f"{call}-{place}.out"
        return _read(path)

    def _write(self, path: Path, body: bytes) -> None:
        """Write a file whole, and through to the disk."""
        # A container may send the same outcome twice at once: each writes a part of its own.
        try:
            private.write(path, body)
        except OSError as error:
            raise StorageError(f"a call's values cannot be stored: {error.strerror}") from error

    def _remove_unknown(self, known_files: set[str]) -> None:
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                old = (
                    time.time() - path.stat().st_mtime > 3600
                )  # newer ones may be of a call that is just made
                if old and path.name.partition(".")[0] not in known_files:
                    path.unlink(missing_ok=True)


def _values(row: CallRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in NAMES}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"a call's values cannot be read: {error.strerror}") from error
