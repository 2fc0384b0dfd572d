"""Apps, revisions and endpoints of one environment, in the database; `Stores` has all environments.

Every method is one transaction, and runs in a thread: see `database.py`. A `StorageError` leaves
everything as it was.
"""

import dataclasses
import logging
import re
import secrets as randomness
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from homeport.contract import codec
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.manifest import Manifest
from homeport.state import rows, tables
from homeport.state.database import Database
from homeport.state.rows import AppRow, Revision, Served, VersionRow
from homeport.state.scope import MAIN, Scope, columns

_SHA256 = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


class Stores:
    """The rows of all environments."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def of(self, scope: Scope) -> "Store":
        """Return the store of one environment, which has nothing in memory."""
        return Store(self.database, scope)

    async def apps(self) -> list[tuple[Scope, AppRow]]:
        """Return every app of every environment, the newest first."""
        t = tables.apps
        query = select(t.c.workspace, t.c.environment, *_columns(t, AppRow))
        query = query.order_by(t.c.created_at.desc())
        rows = await self.database.read(
            lambda c: [dict(row) for row in c.execute(query).mappings()]
        )
        return [
            (Scope(row.pop("workspace"), row.pop("environment")), AppRow(**row)) for row in rows
        ]

    async def local_ports(self) -> dict[str, int]:
        """Return endpoint id -> the local port that it had last. Ids are unique in all environments."""
        t = tables.endpoints
        query = select(t.c.id, t.c.local_port)
        return await self.database.read(
            lambda c: {row.id: row.local_port for row in c.execute(query)}
        )

    async def hashes(self) -> set[str]:
        """Return the SHA-256 of every file that some revision has.

        Files are shared by their content. A manifest that cannot be read keeps its files too.
        """

        def work(connection: Connection) -> set[str]:
            texts = connection.scalars(select(tables.revisions.c.manifest))
            return {digest for text in texts for digest in _SHA256.findall(str(text))}

        return await self.database.read(work)

    async def forget_unserved(self) -> None:
        """Remove revisions whose deploy did not end, but for canaries."""
        a, r = tables.apps, tables.revisions
        served = (
            select(a.c.version)
            .where(a.c.workspace == r.c.workspace, a.c.environment == r.c.environment)
            .where(a.c.name == r.c.app)
            .scalar_subquery()
        )
        await _delete_if_any(
            self.database, r, and_(r.c.version > func.coalesce(served, 0), _is_no_canary())
        )


class Store:
    """The rows of one environment.

    One class, because each method is one short transaction on the same database.
    """

    def __init__(self, database: Database, scope: Scope = MAIN) -> None:
        self.database = database
        self.scope = scope
        self._key = columns(scope)

    # apps and revisions

    async def app(self, name: str) -> AppRow | None:
        """Return the app of that name."""
        return await self.database.read(lambda c: self._app(c, name))

    async def apps(self) -> list[AppRow]:
        """Return every app, the newest first."""
        query = self._from(tables.apps, *_columns(tables.apps, AppRow))
        query = query.order_by(tables.apps.c.created_at.desc())
        return [AppRow(**row) for row in await self._rows(query)]

    async def add_revision(
        self, revision_id: str, app: str, manifest: Manifest, fingerprint: str, tag: str
    ) -> Revision:
        """Save a revision under the app's next version; the app does not serve it yet."""
        text, created_at = codec.dumps(manifest), time.time()
        t = tables.revisions

        def work(connection: Connection) -> Revision:
            newest = select(func.max(t.c.version)).where(self._here(t), t.c.app == app)
            revision = Revision(
                id=revision_id,
                app=app,
                version=(connection.scalar(newest) or 0) + 1,
                manifest=manifest,
                fingerprint=fingerprint,
                tag=tag,
                created_at=created_at,
                scope=self.scope,
            )
            values = {name: getattr(revision, name) for name in _names(Revision)}
            connection.execute(insert(t).values(**self._key, **{**values, "manifest": text}))
            return revision

        return await self.database.write(work)

    async def remove_revision(self, revision_id: str) -> None:
        """Remove a revision that never served, or that is too old for a rollback."""
        for table, column in (
            (tables.revisions, tables.revisions.c.id),
            (tables.canaries, tables.canaries.c.revision),
        ):
            await self._delete_if_any(table, column == revision_id)

    async def forget_unserved(self, app: str) -> None:
        """Remove revisions of an app whose deploy did not end, but for canaries."""
        a, r = tables.apps, tables.revisions
        served = select(a.c.version).where(self._here(a), a.c.name == app).scalar_subquery()
        unserved = and_(r.c.app == app, r.c.version > func.coalesce(served, 0), _is_no_canary())
        await self._delete_if_any(r, unserved)

    async def revisions(self, app: str) -> list[Revision]:
        """Return every revision of an app that can be read, the newest first."""
        t = tables.revisions
        query = self._from(t, *_columns(t, Revision)).where(t.c.app == app)
        revisions = []
        for row in await self._rows(query.order_by(t.c.version.desc())):
            try:
                revisions.append(rows.revision(row, self.scope))
            except StorageError as error:
                log.warning("%s", error.message)
        return revisions

    async def versions(self, since: float, until: float, app: str = "") -> list[VersionRow]:
        """Return the versions that were deployed in a time, the oldest first; `app`: of this app alone."""
        a, r = tables.apps, tables.revisions
        served = and_(self._here(a), a.c.name == r.c.app, a.c.version >= r.c.version)
        query = self._from(r, *_columns(r, VersionRow)).where(
            select(a.c.name).where(served).exists()
        )
        query = query.where(r.c.created_at >= since, r.c.created_at < until)
        if app:
            query = query.where(r.c.app == app)
        return [VersionRow(**row) for row in await self._rows(query.order_by(r.c.created_at))]

    async def numbers(self, app: str) -> dict[str, int]:
        """Return the version of each revision of an app, by its id."""
        t = tables.revisions
        rows = await self._rows(self._from(t, t.c.id, t.c.version).where(t.c.app == app))
        return {row["id"]: row["version"] for row in rows}

    async def revision(self, app: str, version: int) -> Revision:
        """Return one revision; `NotFound` names the app, `StorageError` says that the row is damaged."""
        t = tables.revisions
        query = self._from(t, *_columns(t, Revision)).where(t.c.app == app, t.c.version == version)
        rows_found = await self._rows(query)
        if not rows_found:
            raise NotFound(
                f"the app `{app}` has no version v{version}",
                hint=f"`homeport app history {app}` lists its versions",
            )
        return rows.revision(rows_found[0], self.scope)

    async def served(self, app: str) -> Served:
        """Return what `put_back` needs to undo the next change of an app."""
        return await self.database.read(lambda c: self._served(c, app))

    async def put_back(self, app: str, before: Served) -> None:
        """Undo `serve_revision` or `stop_app`, if it has happened."""

        def work() -> None:
            with self.database.reading() as connection:  # a full disk can still be read
                now = self._served(connection, app)
            if now.app == before.app and _of(app, now) == _of(app, before):
                return
            with self.database.writing() as connection:
                self._put_back(connection, app, before)

        await self.database.in_turn(work)

    async def serve_revision(self, revision: Revision, ports: Mapping[str, int]) -> None:
        """Record that the app serves this revision at these endpoints (id -> local port)."""
        a, values = tables.apps, {"version": revision.version, "stopped_at": None}

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(a).where(self._here(a), a.c.name == revision.app).values(**values)
            )
            if not changed.rowcount:
                app_id = f"ap-{randomness.token_hex(11)}"
                row = {"name": revision.app, "app_id": app_id, "created_at": time.time(), **values}
                connection.execute(insert(a).values(**self._key, **row))
            self._set_endpoints(
                connection,
                revision.app,
                {name: (revision.app, port) for name, port in ports.items()},
            )

        await self.database.write(work)

    async def stop_app(self, name: str) -> None:
        """Record that the app serves no more; its revisions stay, so that it can be rolled back to."""
        t = tables.apps
        query = update(t).where(self._here(t), t.c.name == name).values(stopped_at=time.time())
        await self.database.write(lambda c: c.execute(query))

    async def local_ports(self) -> dict[str, int]:
        """Return endpoint id -> the local port that it had last."""
        t = tables.endpoints
        rows = await self._rows(self._from(t, t.c.id, t.c.local_port))
        return {row["id"]: row["local_port"] for row in rows}

    # helpers

    def _here(self, table: Table) -> ColumnElement[bool]:
        """Return the condition that a row is of this environment."""
        return tables.here(table, self.scope)

    def _from(self, table: Table, *columns: ColumnElement[Any]) -> Select[Any]:
        return select(*columns).where(self._here(table))

    async def _rows(self, query: Select[Any]) -> list[Any]:
        return await self.database.read(lambda c: list(c.execute(query).mappings()))

    async def _delete_if_any(self, table: Table, condition: ColumnElement[bool]) -> None:
        await _delete_if_any(self.database, table, and_(self._here(table), condition))

    def _app(self, connection: Connection, name: str) -> AppRow | None:
        t = tables.apps
        query = self._from(t, *_columns(t, AppRow)).where(t.c.name == name)
        row = connection.execute(query).mappings().first()
        return AppRow(**row) if row else None

    def _served(self, connection: Connection, app: str) -> Served:
        t = tables.endpoints
        rows = connection.execute(self._from(t, t.c.id, t.c.app, t.c.local_port))
        return Served(
            app=self._app(connection, app),
            endpoints={row.id: (row.app, row.local_port) for row in rows},
        )

    def _put_back(self, connection: Connection, app: str, before: Served) -> None:
        a, t = tables.apps, tables.endpoints
        connection.execute(delete(a).where(self._here(a), a.c.name == app))
        if before.app is not None:
            connection.execute(insert(a).values(**self._key, **dataclasses.asdict(before.app)))
        owned = set(connection.scalars(self._from(t, t.c.id).where(t.c.app == app)))
        self._set_endpoints(
            connection,
            app,
            {
                n: owner_and_port
                for n, owner_and_port in before.endpoints.items()
                if owner_and_port[0] == app or n in owned
            },
        )

    def _set_endpoints(
        self, connection: Connection, app: str, endpoints: Mapping[str, tuple[str, int]]
    ) -> None:
        """Give the app these endpoints and no others; a stopped app may have had one of them."""
        t = tables.endpoints
        affected = (t.c.app == app) | t.c.id.in_(list(endpoints))
        connection.execute(delete(t).where(self._here(t), affected))
        for name, (owner, port) in endpoints.items():
            connection.execute(insert(t).values(**self._key, id=name, app=owner, local_port=port))


async def _delete_if_any(database: Database, table: Table, these: ColumnElement[bool]) -> None:
    """Delete rows; if there are none, nothing is written: an undo works on a full disk too."""

    def work() -> None:
        with database.reading() as connection:
            if not connection.scalar(select(func.count()).select_from(table).where(these)):
                return
        with database.writing() as connection:
            connection.execute(delete(table).where(these))

    await database.in_turn(work)


def _is_no_canary() -> ColumnElement[bool]:
    """Return the condition that a revision is none, and was none: it serves nothing of the app's own URLs."""
    return tables.revisions.c.id.not_in(select(tables.canaries.c.revision))


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.name != "scope"]


def _columns(table: Table, cls: type) -> Iterable[ColumnElement[Any]]:
    return (table.c[name] for name in _names(cls))


def _of(app: str, served: Served) -> dict[str, tuple[str, int]]:
    return {
        name: owner_and_port
        for name, owner_and_port in served.endpoints.items()
        if owner_and_port[0] == app
    }
