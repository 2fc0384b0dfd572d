"""Names of dicts and queues: which object a name means, and which objects exist.

The rows are in memory too, because each operation asks whether its object is still there. One server writes
them (`Database.claim`), so memory and table agree.
"""

import dataclasses
import secrets
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from homeport.contract import names
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.rows import ObjectRow
from homeport.state.scope import MAIN, Scope, columns

ID_PREFIX = {"dict": "di-", "queue": "qu-"}
_T = tables.objects


class Objects:
    """The dicts or the queues of one environment, by name."""

    def __init__(
        self,
        database: Database,
        kind: str,
        empty: Callable[[Connection, str], None],
        *,
        scope: Scope = MAIN,
    ) -> None:
        """`empty` deletes the entries of an object, in a transaction."""
        self._database = database
        self._kind = kind
        self._empty = empty
        self._scope = columns(scope)
        self._rows: dict[str, ObjectRow] = {}  # by id

    async def load(self) -> None:
        """Read the rows; delete ephemeral objects, whose programs ended with the earlier server."""
        query = select(_T.c.id, _T.c.name, _T.c.created_at).where(self._here())
        found = await self._database.read(lambda c: list(c.execute(query).mappings()))
        self._rows = {row["id"]: ObjectRow(**row) for row in found}
        for row in list(self._rows.values()):
            if row.name is None:
                await self.delete(row.id)

    def list(self) -> list[ObjectRow]:
        """Return the objects that have a name, in the order of their names."""
        named = [row for row in self._rows.values() if row.name is not None]
        return sorted(named, key=lambda row: row.name or "")

    def find(self, name: str) -> ObjectRow:
        """Return the object with a name or an id; `NotFound` for an unknown one."""
        row = self._rows.get(name) or self._named(name)
        if row is None:
            raise NotFound(
                f"there is no {self._kind} `{name[:80]}`",
                hint=f"`homeport {self._kind} create NAME` makes one; so does `create_if_missing=True`",
            )
        return row

    async def create(self, name: str | None, *, allow_existing: bool = False) -> ObjectRow:
        """Create an object; None is an ephemeral one's name."""
        if name is not None and not names.is_volume_name(name):
            raise BadRequest(
                f"Invalid {self._kind.capitalize()} name: '{name[:80]}'.",
                hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
            )
        object_id = f"{ID_PREFIX[self._kind]}{secrets.token_hex(11)}"
        row = ObjectRow(id=object_id, name=name, created_at=time.time())
        values = {**self._scope, "kind": self._kind, **dataclasses.asdict(row)}

        def work(connection: Connection) -> ObjectRow | None:
            if name is not None and (known := self._named(name)) is not None:
                return known
            connection.execute(insert(_T).values(**values))
            self._rows[row.id] = row
            return None

        try:
            known = await self._database.write(work)
        except BaseException:
            self._rows.pop(row.id, None)
            raise
        if known is not None and not allow_existing:
            raise AlreadyExists(f"the {self._kind} `{name}` exists")
        return known or row

    async def delete(self, name: str) -> None:
        """Delete an object and its entries."""
        row = self.find(name)

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(self._here(), _T.c.id == row.id))
            self._empty(connection, row.id)
            self._rows.pop(row.id, None)  # before the next write asks for it

        try:
            await self._database.write(work)
        except StorageError:
            self._rows[row.id] = row
            raise

    def _named(self, name: str) -> ObjectRow | None:
        return next((row for row in self._rows.values() if row.name == name), None)

    def _here(self) -> ColumnElement[bool]:
        return and_(
            _T.c.kind == self._kind, *(_T.c[key] == value for key, value in self._scope.items())
        )
