"""Apps, revisions and endpoints of one environment, in the database; `Stores` has all environments.

Every method is one transaction, and runs in a thread: see `database.py`. A `StorageError` leaves
everything as it was.
"""

import dataclasses
import logging
import re
import secrets as randomness
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, and_, select

from homeport.contract import codec
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.manifest import Manifest
from homeport.state import rows, tables
from homeport.state import store_statements as statements
from homeport.state.database import Database
from homeport.state.rows import AppRow, Revision, Served, VersionRow
from homeport.state.scope import MAIN, Scope, columns
from homeport.state.store_statements import Doomed

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
        rows = await self.database.read(
            lambda c: [dict(row) for row in c.execute(statements.EVERY_APP).mappings()]
        )
        return [
            (Scope(row.pop("workspace"), row.pop("environment")), AppRow(**row)) for row in rows
        ]

    async def local_ports(self) -> dict[str, int]:
        """Return endpoint id -> the local port that it had last. Ids are unique in all environments."""
        return await self.database.read(
            lambda c: {row.id: row.local_port for row in c.execute(statements.EVERY_PORT)}
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
        await _delete_if_any(self.database, statements.UNSERVED, {})


class Store:
    """The rows of one environment.

    One class, because each method is one short transaction on the same database.
    """

    def __init__(self, database: Database, scope: Scope = MAIN) -> None:
        self.database = database
        self.scope = scope
        self._key = columns(scope)
        self._here = tables.parameters(scope)

    # apps and revisions

    async def app(self, name: str) -> AppRow | None:
        """Return the app of that name."""
        return await self.database.read(lambda c: self._app(c, name))

    async def apps(self) -> list[AppRow]:
        """Return every app, the newest first."""
        return [AppRow(**row) for row in await self._rows(statements.APPS)]

    async def add_revision(
        self, revision_id: str, app: str, manifest: Manifest, fingerprint: str, tag: str
    ) -> Revision:
        """Save a revision under the app's next version; the app does not serve it yet."""
        text, created_at = codec.dumps(manifest), time.time()

        def work(connection: Connection) -> Revision:
            newest = connection.scalar(statements.NEWEST, {**self._here, "of_app": app})
            revision = Revision(
                id=revision_id,
                app=app,
                version=(newest or 0) + 1,
                manifest=manifest,
                fingerprint=fingerprint,
                tag=tag,
                created_at=created_at,
                scope=self.scope,
            )
            values = {name: getattr(revision, name) for name in statements.names(Revision)}
            connection.execute(
                statements.INSERT_REVISION, {**self._key, **values, "manifest": text}
            )
            return revision

        return await self.database.write(work)

    async def remove_revision(self, revision_id: str) -> None:
        """Remove a revision that never served, or that is too old for a rollback."""
        for these in statements.REMOVED:
            await self._delete_if_any(these, of_revision=revision_id)

    async def forget_unserved(self, app: str) -> None:
        """Remove revisions of an app whose deploy did not end, but for canaries."""
        await self._delete_if_any(statements.UNSERVED_OF_APP, of_app=app)

    async def revisions(self, app: str) -> list[Revision]:
        """Return every revision of an app that can be read, the newest first."""
        revisions = []
        for row in await self._rows(statements.REVISIONS, of_app=app):
            try:
                revisions.append(rows.revision(row, self.scope))
            except StorageError as error:
                log.warning("%s", error.message)
        return revisions

    async def versions(self, since: float, until: float, app: str = "") -> list[VersionRow]:
        """Return the versions that were deployed in a time, the oldest first; `app`: of this app alone."""
        a, r = tables.apps, tables.revisions
        served = and_(tables.here(a, self.scope), a.c.name == r.c.app, a.c.version >= r.c.version)
        query = select(*statements.columns(r, VersionRow)).where(
            tables.here(r, self.scope), select(a.c.name).where(served).exists()
        )
        query = query.where(r.c.created_at >= since, r.c.created_at < until)
        if app:
            query = query.where(r.c.app == app)
        return [VersionRow(**row) for row in await self._rows(query.order_by(r.c.created_at))]

    async def numbers(self, app: str) -> dict[str, int]:
        """Return the version of each revision of an app, by its id."""
        rows = await self._rows(statements.NUMBERS, of_app=app)
        return {row["id"]: row["version"] for row in rows}

    async def revision(self, app: str, version: int) -> Revision:
        """Return one revision; `NotFound` names the app, `StorageError` says that the row is damaged."""
        rows_found = await self._rows(statements.REVISION, of_app=app, of_version=version)
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
        values = {"version": revision.version, "stopped_at": None}

        def work(connection: Connection) -> None:
            if not self._update(connection, revision.app, values):
                app_id = f"ap-{randomness.token_hex(11)}"
                row = {"name": revision.app, "app_id": app_id, "created_at": time.time(), **values}
                connection.execute(statements.INSERT_APP, {**self._key, **row})
            self._set_endpoints(
                connection,
                revision.app,
                {name: (revision.app, port) for name, port in ports.items()},
            )

        await self.database.write(work)

    async def stop_app(self, name: str) -> None:
        """Record that the app serves no more; its revisions stay, so that it can be rolled back to."""
        await self.database.write(lambda c: self._update(c, name, {"stopped_at": time.time()}))

    async def local_ports(self) -> dict[str, int]:
        """Return endpoint id -> the local port that it had last."""
        rows = await self._rows(statements.ENDPOINTS)
        return {row["id"]: row["local_port"] for row in rows}

    # helpers

    async def _rows(self, query: Select[Any], **values: object) -> list[Any]:
        values |= self._here
        return await self.database.read(lambda c: list(c.execute(query, values).mappings()))

    async def _delete_if_any(self, these: Doomed, **values: object) -> None:
        await _delete_if_any(self.database, these, {**self._here, **values})

    def _update(self, connection: Connection, app: str, values: Mapping[str, object]) -> int:
        """Change the row of an app; return how many rows there were."""
        parameters = {**self._here, "of_app": app, **values}
        return connection.execute(statements.UPDATE_APP, parameters).rowcount

    def _app(self, connection: Connection, name: str) -> AppRow | None:
        parameters = {**self._here, "of_app": name}
        row = connection.execute(statements.APP, parameters).mappings().first()
        return AppRow(**row) if row else None

    def _served(self, connection: Connection, app: str) -> Served:
        rows = connection.execute(statements.ENDPOINTS, self._here)
        return Served(
            app=self._app(connection, app),
            endpoints={row.id: (row.app, row.local_port) for row in rows},
        )

    def _put_back(self, connection: Connection, app: str, before: Served) -> None:
        parameters = {**self._here, "of_app": app}
        connection.execute(statements.DELETE_APP, parameters)
        if before.app is not None:
            connection.execute(
                statements.INSERT_APP, {**self._key, **dataclasses.asdict(before.app)}
            )
        owned = set(connection.scalars(statements.ENDPOINTS_OF_APP, parameters))
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
        affected = {**self._here, "of_app": app, "or_these": list(endpoints)}
        connection.execute(statements.DELETE_ENDPOINTS, affected)
        if endpoints:
            fresh = [
                {**self._key, "id": name, "app": owner, "local_port": port}
                for name, (owner, port) in endpoints.items()
            ]
            connection.execute(statements.INSERT_ENDPOINT, fresh)


async def _delete_if_any(database: Database, these: Doomed, values: Mapping[str, object]) -> None:
    """Delete rows; if there are none, nothing is written: an undo works on a full disk too."""

    def work() -> None:
        with database.reading() as connection:
            if not connection.scalar(these.number, values):
                return
        with database.writing() as connection:
            connection.execute(these.delete, values)

    await database.in_turn(work)


def _of(app: str, served: Served) -> dict[str, tuple[str, int]]:
    return {
        name: owner_and_port
        for name, owner_and_port in served.endpoints.items()
        if owner_and_port[0] == app
    }
