"""Spawned calls: a row from `.spawn` until seven days after the outcome.

    waiting ──claim──▶ running ──finish──▶ done | failed
       ▲                  │
       └─────again────────┘          every state but the last ones ──cancel──▶ cancelled

A container claims an attempt before it runs it, and each change names the attempt: so one attempt runs once, and a late
report changes nothing. Inputs and outcomes above 16 KiB are files in the home's `calls`.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    delete,
    func,
    insert,
    select,
    true,
    update,
)

from homeport.contract.calls import endpoint_id
from homeport.contract.errors import NotFound, StorageError, TooMany
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import MAIN, Scope, columns

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
INLINE_BYTES = 16 * 1024
KEPT_S = 7 * 24 * 3600.0
MAX_WAITING = 1_000_000
_T = tables.calls
_TOLD = [column for column in _T.c if column.name not in ("input", "outcome")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """A call without its input and its outcome."""

    id: str
    place: int = 0
    endpoint: str
    app: str
    tag: str
    parameters: str = ""
    parent: str = ""
    python: str = ""
    state: str = WAITING
    attempt: int = 0
    container: str = ""
    due_at: float = 0.0
    note: str = ""
    kind: str = ""
    outcome_python: str = ""
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    options: bytes | None = None  # of a variant, sealed
    workspace: str = MAIN.workspace
    environment: str = MAIN.environment

    @property
    def scope(self) -> Scope:
        """The environment of the app."""
        return Scope(self.workspace, self.environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a call."""

    kind: str  # value, error, timeout, ended, refused, cancelled
    python: str
    body: bytes


class Calls:
    """The calls of all environments, for the dispatcher; `of` returns those of one, for everybody else.

    One class, because each method is one short transaction on the same table.
    """

    def __init__(self, database: Database, folder: Path, *, scope: Scope | None = None) -> None:
        self._database = database
        self._folder = folder
        self._scope = scope

    def of(self, scope: Scope) -> "Calls":
        """Return the calls of one environment; those of others do not exist there."""
        return Calls(self._database, self._folder, scope=scope)

    async def add(self, rows: Sequence[CallRow], inputs: Sequence[bytes]) -> bool:
        """Save calls, all or none; False if they are known already."""
        values = []
        for row, body in zip(rows, inputs, strict=True):
            small = len(body) <= INLINE_BYTES
            if not small:
                await asyncio.to_thread(self._write, self._input(row.id, row.place), body)
            told = {column.name: getattr(row, column.name) for column in _TOLD}
            values.append({**told, "input": body if small else None})

        def work(connection: Connection) -> bool:
            known = select(_T.c.id).where(_T.c.id == rows[0].id)  # in any environment
            if connection.execute(known).first() is not None:
                return False
            waiting = select(func.count()).select_from(_T).where(_T.c.state == WAITING)
            if (connection.scalar(waiting) or 0) + len(values) > MAX_WAITING:
                raise TooMany(f"{MAX_WAITING} calls are waiting already", hint="try again later")
            connection.execute(insert(_T), values)
            return True

        return await self._database.together(work)

    def insert_small(self, connection: Connection, row: CallRow, body: bytes) -> bool:
        """Save a call with a small input in the caller's transaction; False if it is known already."""
        if connection.execute(select(_T.c.id).where(_T.c.id == row.id)).first() is not None:
            return False
        told = {column.name: getattr(row, column.name) for column in _TOLD}
        connection.execute(insert(_T), [{**told, "input": body}])
        return True

    def is_waiting(self, connection: Connection, call: str) -> bool:
        """Return whether a call waits for a container, in the caller's transaction."""
        query = self._this(call, select(_T.c.id)).where(_T.c.state == WAITING)
        return connection.execute(query).first() is not None

    async def find(self, call: str) -> list[CallRow]:
        """Return a call's rows, one for each input; `NotFound` for an unknown call."""
        query = self._this(call, select(*_TOLD)).order_by(_T.c.place)
        rows = await self._rows(query)
        if not rows:
            raise NotFound(f"there is no call `{call[:80]}`", hint="results are kept for 7 days")
        return rows

    async def input(self, row: CallRow) -> bytes:
        """Return the arguments."""
        query = self._this(row.id, select(_T.c.input), row.place)
        body = await self._database.read(lambda c: c.scalar(query))
        if body is None:
            body = await asyncio.to_thread(_read, self._input(row.id, row.place))
        return bytes(body)

    async def outcome(self, call: str, place: int) -> Outcome | None:
        """Return a call's outcome; None before the call has ended."""
        columns = (_T.c.state, _T.c.kind, _T.c.outcome_python, _T.c.outcome)
        query = self._this(call, select(*columns), place)
        found = await self._database.read(lambda c: c.execute(query).one_or_none())
        if found is None:
            raise NotFound(f"there is no call `{call[:80]}`", hint="results are kept for 7 days")
        state, kind, python, body = found
        if state not in ENDED:
            return None
        if body is None:
            body = await asyncio.to_thread(_read, self._outcome(call, place))
        return Outcome(kind=kind, python=python, body=bytes(body))

    async def endpoints(self, now: float) -> list[str]:
        """Return the endpoints that calls wait for now."""
        query = select(_T.c.endpoint).where(self._here(), _T.c.state == WAITING, _T.c.due_at <= now)
        return await self._database.read(lambda c: list(c.scalars(query.distinct())))

    async def due(
        self, endpoint: str, now: float, flying: Collection[tuple[str, int]], most: int
    ) -> list[CallRow]:
        """Return the calls of an endpoint that wait, without the `flying` ones, those that are due first."""
        query = (
            select(*_TOLD)
            .where(self._here(), _T.c.state == WAITING)
            .where(_T.c.endpoint == endpoint, _T.c.due_at <= now)
            .order_by(_T.c.due_at, _T.c.id, _T.c.place)
            .limit(most + len(flying))
        )
        rows = await self._rows(query)
        return [row for row in rows if (row.id, row.place) not in flying][:most]

    async def next_due(self, now: float) -> float | None:
        """Return when the next call is due that waits for a time."""
        query = select(func.min(_T.c.due_at)).where(
            self._here(), _T.c.state == WAITING, _T.c.due_at > now
        )
        return await self._database.read(lambda c: c.scalar(query))

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
        return await self._rows(select(*_TOLD).where(self._here(), _T.c.state == RUNNING))

    async def claim(self, call: str, place: int, attempt: int, container: str) -> bool:
        """Give an attempt to a container; False if it is another one's, or over."""
        return await self._change(
            (call, place, attempt),
            (WAITING,),
            state=RUNNING,
            container=container,
            started_at=time.time(),
            note="",
        )

    async def finish(self, call: str, place: int, attempt: int, outcome: Outcome) -> bool:
        """Save how a call ended; False if it was not waiting or running in this attempt."""
        small = len(outcome.body) <= INLINE_BYTES
        if not small:
            await asyncio.to_thread(self._write, self._outcome(call, place), outcome.body)
        return await self._change(
            (call, place, attempt),
            (WAITING, RUNNING),
            state=DONE if outcome.kind == "value" else FAILED,
            kind=outcome.kind,
            outcome_python=outcome.python,
            outcome=outcome.body if small else None,
            ended_at=time.time(),
        )

    async def again(self, call: str, place: int, attempt: int, due_at: float, note: str) -> bool:
        """Let a call wait for its next attempt."""
        return await self._change(
            (call, place, attempt),
            (WAITING, RUNNING),
            state=WAITING,
            attempt=attempt + 1,
            container="",
            due_at=due_at,
            note=note,
        )

    async def postpone(self, row: CallRow, due_at: float, note: str) -> bool:
        """Let a call that no container has claimed wait longer."""
        key = (row.id, row.place, row.attempt)
        return await self._change(key, (WAITING,), due_at=due_at, note=note)

    async def cancel(self, call: str) -> list[CallRow]:
        """Cancel the inputs that have not ended; return these rows, as they were."""
        query = self._this(call, select(*_TOLD)).where(_T.c.state.in_((WAITING, RUNNING)))
        change = update(_T).where(self._here(), _T.c.id == call, _T.c.state.in_((WAITING, RUNNING)))
        values = {"state": CANCELLED, "kind": CANCELLED, "outcome": b"", "ended_at": time.time()}

        def work(connection: Connection) -> list[CallRow]:
            rows = [CallRow(**row) for row in connection.execute(query).mappings()]
            connection.execute(change.values(**values))
            return rows

        return await self._database.together(work)

    async def latest(self, app: str, state: str, most: int) -> list[CallRow]:
        """Return calls, the newest first; empty values mean any."""
        query = select(*_TOLD).where(self._here())
        if app:
            query = query.where(_T.c.app == app)
        if state:
            query = query.where(_T.c.state == state)
        return await self._rows(query.order_by(_T.c.created_at.desc()).limit(most))

    async def children(self, call: str) -> list[CallRow]:
        """Return the calls that a call has made."""
        query = select(*_TOLD).where(self._here(), _T.c.parent == call)
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

    async def _execute(self, change: Update) -> None:
        await self._database.write(lambda c: c.execute(change))

    async def sweep(self) -> None:
        """Delete calls that ended more than seven days ago, and files of no call."""
        old = _T.c.ended_at < time.time() - KEPT_S
        await self._database.write(lambda c: c.execute(delete(_T).where(old)))
        query = select(_T.c.id, _T.c.place)
        known = await self._database.read(lambda c: {f"{i}-{p}" for i, p in c.execute(query)})
        await asyncio.to_thread(self._remove_others, known)

    async def _change(
        self, key: tuple[str, int, int], states: Sequence[str], **values: Any
    ) -> bool:
        call, place, attempt = key
        query = (
            update(_T)
            .where(self._here(), _T.c.id == call, _T.c.place == place, _T.c.attempt == attempt)
            .where(_T.c.state.in_(states))
            .values(**values)
        )
        return await self._database.together(lambda c: c.execute(query).rowcount == 1)

    async def _rows(self, query: Any) -> list[CallRow]:
        found = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [CallRow(**row) for row in found]

    def _this(self, call: str, query: Any, place: int | None = None) -> Any:
        query = query.where(self._here(), _T.c.id == call)
        return query if place is None else query.where(_T.c.place == place)

    def _here(self) -> ColumnElement[bool]:
        if self._scope is None:
            return true()
        return and_(*(_T.c[key] == value for key, value in columns(self._scope).items()))

    def _input(self, call: str, place: int) -> Path:
        return self._folder / f"{call}-{place}.in"

    def _outcome(self, call: str, place: int) -> Path:
        return self._folder / f"{call}-{place}.out"

    def _write(self, path: Path, body: bytes) -> None:
        """Write a file whole, and through to the disk."""
        part = path.with_suffix(f"{path.suffix}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with part.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StorageError(f"a call's values cannot be stored: {error.strerror}") from error

    def _remove_others(self, known: set[str]) -> None:
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                old = (
                    time.time() - path.stat().st_mtime > 3600
                )  # newer ones may be of a call that is just made
                if old and path.name.partition(".")[0] not in known:
                    path.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"a call's values cannot be read: {error.strerror}") from error
