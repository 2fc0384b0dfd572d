"""Names of volumes, dicts and queues: which object a name means, and which objects exist.

The rows are in memory too, because each operation asks whether its object is still there, and a deploy that is rolled
back must not wait for the database. One server writes them (`Database.claim`), so memory and table agree.
"""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from homeport.contract import names
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.rows import ObjectRow
from homeport.state.scope import MAIN, Scope, columns

ID_PREFIX = {"dict": "di-", "queue": "qu-", "volume": "vo-"}


class Objects:
    """The volumes, the dicts or the queues of one environment, by name."""

    def __init__(
        self,
        database: Database,
        kind: str,
        empty: Callable[[Connection, str], None] | None = None,
        *,
        scope: Scope = MAIN,
    ) -> None:
        """`empty` deletes the other data that the database has of an object, in a transaction."""
        self._database = database
        self._kind = kind
        self._empty = empty
        self._table = tables.volumes if kind == "volume" else tables.objects
        self._columns = {**columns(scope), **({} if kind == "volume" else {"kind": kind})}
        self._rows: dict[str, ObjectRow] = {}  # by id

    async def load(self) -> list[ObjectRow]:
        """Read the rows; delete ephemeral objects, whose programs ended with the earlier server, and return these."""
        t = self._table
        query = select(t.c.id, t.c.name, t.c.created_at).where(self._here())
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        self._rows = {row["id"]: ObjectRow(**row) for row in rows}
        ended = [row for row in self._rows.values() if row.name is None]
        with contextlib.suppress(StorageError):  # a full disk: they go at a later start
            for row in ended:
                await self.delete(row.id)
        return [row for row in ended if row.id not in self._rows]

    def list(self) -> list[ObjectRow]:
        """Return the objects that have a name, in the order of their names."""
        named = [row for row in self._rows.values() if row.name is not None]
        return sorted(named, key=lambda row: row.name or "")

    def get(self, name: str) -> ObjectRow | None:
        """Return the object with a name or an id; None for an unknown one."""
        return self._rows.get(name) or self._named(name)

    def find(self, name: str) -> ObjectRow:
        """Return the object with a name or an id; `NotFound` for an unknown one."""
        if (row := self.get(name)) is None:
            suggestion = name if names.is_volume_name(name) else "NAME"
            raise NotFound(
                f"there is no {self._kind} `{name[:80]}`",
                hint=f"`homeport {self._kind} create {suggestion}` makes one; so does `create_if_missing=True`",
            )
        return row

    async def create(self, name: str | None, *, allow_existing: bool = False) -> ObjectRow:
        """Create an object; None is an ephemeral one's name."""
        if name is not None:
            self._check(name)
        object_id = f"{ID_PREFIX[self._kind]}{secrets.token_hex(11)}"
        row = ObjectRow(id=object_id, name=name, created_at=time.time())
        query = insert(self._table).values(**self._columns, **dataclasses.asdict(row))

        def work(connection: Connection) -> ObjectRow | None:
            if name is not None and (existing := self._named(name)) is not None:
                return existing
            connection.execute(query)
            self._rows[row.id] = row
            return None

        try:
            existing_row = await self._database.write(work)
        except BaseException:
            self._rows.pop(row.id, None)
            raise
        if existing_row is not None and not allow_existing:
            raise AlreadyExists(f"the {self._kind} `{name}` exists")
        return existing_row or row

    async def rename(self, name: str, new: str) -> ObjectRow:
        """Give an object another name; its id stays."""
        self._check(new)
        row = self.find(name)
        renamed = dataclasses.replace(row, name=new)

        def work(connection: Connection) -> None:
            self.find(row.id)  # it may have been deleted while this waited for its turn
            if (existing := self._named(new)) is not None and existing.id != row.id:
                raise AlreadyExists(f"the {self._kind} `{new}` exists")
            connection.execute(update(self._table).where(self._is(row)).values(name=new))
            self._rows[row.id] = renamed

        await self._changed(work, row)
        return renamed

    async def delete(self, name: str) -> ObjectRow:
        """Delete an object, and return its last row."""
        row = self.find(name)

        def work(connection: Connection) -> None:
            connection.execute(delete(self._table).where(self._is(row)))
            if self._empty is not None:
                self._empty(connection, row.id)
            self._rows.pop(row.id, None)  # before the next write asks for it

        await self._changed(work, row)
        return row

    async def _changed(self, work: Callable[[Connection], None], before: ObjectRow) -> None:
        try:
            await self._database.write(work)
        except StorageError:
            self._rows[before.id] = before
            raise

    def _named(self, name: str) -> ObjectRow | None:
        return next((row for row in self._rows.values() if row.name == name), None)

    def _check(self, name: str) -> None:
        if not names.is_volume_name(name):
            raise BadRequest(
                f"Invalid {self._kind.capitalize()} name: '{name[:80]}'.",
                hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
            )

    def _is(self, row: ObjectRow) -> ColumnElement[bool]:
        return and_(self._here(), self._table.c.id == row.id)

    def _here(self) -> ColumnElement[bool]:
        return and_(*(self._table.c[key] == value for key, value in self._columns.items()))
