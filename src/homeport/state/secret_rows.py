"""The sealed secrets of one environment, in the database; `secrets.py` seals and opens them.

Every method is one transaction, and runs in a thread: see `database.py`. A `StorageError` leaves everything as it was.
"""

import json
import time
from collections.abc import Collection

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from homeport.state import rows, tables
from homeport.state.database import Database
from homeport.state.rows import SecretRow
from homeport.state.scope import MAIN, Scope, columns
from homeport.state.tables import meant

_T, _R = tables.secrets, tables.revisions
_THIS = and_(meant(_T), _T.c.name == bindparam("this"))
_UPDATE, _INSERT = update(_T).where(_THIS), insert(_T)
_SEALED = select(_T.c.name, _T.c.sealed).where(meant(_T))
_NAMED = (
    select(_T.c.name, _T.c["keys"], _T.c.created_at, _T.c.updated_at)
    .where(meant(_T), _T.c.inline == 0)
    .order_by(_T.c.name)
)
_DELETE = delete(_T).where(_THIS, _T.c.inline == 0)
_SAVED = select(_R.c.fingerprint).where(meant(_R))
_INLINE = select(_T.c.name).where(meant(_T), _T.c.inline == 1)
_FORGET = delete(_T).where(meant(_T), _T.c.name.in_(bindparam("these", expanding=True)))


class SecretRows:
    """The secrets of one environment: those with a name, and *inline* ones, which came with a manifest."""

    def __init__(self, database: Database, scope: Scope = MAIN) -> None:
        self._database = database
        self._key = columns(scope)
        self._here = tables.parameters(scope)

    async def put(self, name: str, sealed: bytes, keys: list[str], *, inline: bool) -> None:
        """Create a secret, or replace the one of that name."""
        now = time.time()
        values = {"sealed": sealed, "keys": json.dumps(keys), "updated_at": now}

        def work(connection: Connection) -> None:
            if not connection.execute(_UPDATE, {**self._here, "this": name, **values}).rowcount:
                row = {"name": name, "inline": int(inline), "created_at": now, **values}
                connection.execute(_INSERT, {**self._key, **row})

        await self._database.write(work)

    async def sealed(self) -> dict[str, bytes]:
        """Return the sealed values of every secret, inline ones too, by name."""
        return await self._database.read(
            lambda c: {row.name: row.sealed for row in c.execute(_SEALED, self._here)}
        )

    async def named(self) -> list[SecretRow]:
        """Return the named secrets, without values, in the order of their names."""
        secrets = await self._database.read(
            lambda c: list(c.execute(_NAMED, self._here).mappings())
        )
        return [rows.secret(row) for row in secrets]

    async def delete(self, name: str) -> bool:
        """Delete a named secret; False for an unknown one."""
        this = {**self._here, "this": name}
        return bool(await self._database.write(lambda c: c.execute(_DELETE, this).rowcount))

    async def forget_inline(self, fingerprints: Collection[str]) -> list[str]:
        """Remove inline secrets, except those of saved revisions and of manifests with these fingerprints.

        Returns the names of the removed secrets. Nothing is written if there are none.
        """

        def unneeded(connection: Connection) -> list[str]:
            saved = set(connection.scalars(_SAVED, self._here))
            names = connection.scalars(_INLINE, self._here)
            return [n for n in names if n.partition("/")[0] not in saved | set(fingerprints)]

        def work() -> list[str]:
            with self._database.reading() as connection:
                if not unneeded(connection):
                    return []
            with self._database.writing() as connection:
                names = unneeded(connection)
                connection.execute(_FORGET, {**self._here, "these": names})
                return names

        return await self._database.in_turn(work)
