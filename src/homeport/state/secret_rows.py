"""The sealed secrets of one environment, in the database; `secrets.py` seals and opens them.

Every method is one transaction, and runs in a thread: see `database.py`. A `StorageError` leaves everything as it was.
"""

import json
import time
from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update

from homeport.state import rows, tables
from homeport.state.database import Database
from homeport.state.rows import SecretRow
from homeport.state.scope import MAIN, Scope, columns


class SecretRows:
    """The secrets of one environment: those with a name, and *inline* ones, which came with a manifest."""

    def __init__(self, database: Database, scope: Scope = MAIN) -> None:
        self._database = database
        self._scope = scope

    async def put(self, name: str, sealed: bytes, keys: list[str], *, inline: bool) -> None:
        """Create a secret, or replace the one of that name."""
        t, now = tables.secrets, time.time()
        values = {"sealed": sealed, "keys": json.dumps(keys), "updated_at": now}

        def work(connection: Connection) -> None:
            query = update(t).where(self._here(t), t.c.name == name).values(**values)
            if not connection.execute(query).rowcount:
                row = {"name": name, "inline": int(inline), "created_at": now, **values}
                connection.execute(insert(t).values(**columns(self._scope), **row))

        await self._database.write(work)

    async def sealed(self) -> dict[str, bytes]:
        """Return the sealed values of every secret, inline ones too, by name."""
        t = tables.secrets
        query = select(t.c.name, t.c.sealed).where(self._here(t))
        return await self._database.read(
            lambda c: {row.name: row.sealed for row in c.execute(query)}
        )

    async def named(self) -> list[SecretRow]:
        """Return the named secrets, without values, in the order of their names."""
        t = tables.secrets
        query = select(t.c.name, t.c["keys"], t.c.created_at, t.c.updated_at)
        query = query.where(self._here(t), t.c.inline == 0).order_by(t.c.name)
        secrets = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [rows.secret(row) for row in secrets]

    async def delete(self, name: str) -> bool:
        """Delete a named secret; False for an unknown one."""
        t = tables.secrets
        query = delete(t).where(self._here(t), t.c.name == name, t.c.inline == 0)
        return bool(await self._database.write(lambda c: c.execute(query).rowcount))

    async def forget_inline(self, fingerprints: Collection[str]) -> list[str]:
        """Remove inline secrets, except those of saved revisions and of manifests with these fingerprints.

        Returns the names of the removed secrets. Nothing is written if there are none.
        """
        t, r = tables.secrets, tables.revisions

        def unneeded(connection: Connection) -> list[str]:
            saved = set(connection.scalars(select(r.c.fingerprint).where(self._here(r))))
            names = connection.scalars(select(t.c.name).where(self._here(t), t.c.inline == 1))
            return [n for n in names if n.partition("/")[0] not in saved | set(fingerprints)]

        def work() -> list[str]:
            with self._database.reading() as connection:
                if not unneeded(connection):
                    return []
            with self._database.writing() as connection:
                names = unneeded(connection)
                connection.execute(delete(t).where(self._here(t), t.c.name.in_(names)))
                return names

        return await self._database.in_turn(work)

    def _here(self, table: Table) -> ColumnElement[bool]:
        """Return the condition that a row is of this environment."""
        return tables.here(table, self._scope)
