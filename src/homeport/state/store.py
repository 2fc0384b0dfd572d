"""What outlives the server: apps, revisions, endpoints, secrets, tokens.

Every method is one transaction of a millisecond or less, so they are called on the event loop.
"""

import dataclasses
import json
import logging
import re
import secrets as randomness
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    RowMapping,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError

from homeport.contract import codec
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.manifest import Manifest
from homeport.state import tables

SCHEMA = 1  # of the tables, kept in the file as `user_version`; 0: before there were any versions
_SHA256 = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One immutable deploy."""

    id: str
    app: str
    version: int  # 1, 2, …; 0: a `serve` session's
    manifest: Manifest
    fingerprint: str = ""
    tag: str = ""
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRow:
    """A deployed app, or one that was."""

    name: str
    app_id: str
    version: int
    created_at: float
    stopped_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the store said of an app before a change, for `Store.put_back`."""

    app: AppRow | None
    endpoints: dict[str, tuple[str, int]]  # of every app: id -> app, local port


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """A secret without its values."""

    name: str
    keys: tuple[str, ...]
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A proxy token without its secret."""

    id: str
    name: str
    secret_sha256: str
    created_at: float


class Store:
    """One SQLite file in WAL mode."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(URL.create("sqlite", database=str(path)))
        event.listen(self._engine, "connect", _pragmas)
        try:
            with self._engine.begin() as connection:
                schema = connection.exec_driver_sql("PRAGMA user_version").scalar() or 0
                if schema > SCHEMA:
                    raise StorageError(
                        f"{path} was written by a later homeport (schema {schema})",
                        hint="install that version again, or use another HOMEPORT_HOME",
                    )
                tables.metadata.create_all(connection)
                if schema < SCHEMA:
                    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")
        except DatabaseError as error:
            raise StorageError(f"{path} cannot be opened: {error.orig}") from error

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            raise StorageError(f"the store cannot be written: {error.orig}") from error

    # apps and revisions

    def app(self, name: str) -> AppRow | None:
        """The app of that name."""
        with self._begin() as c:
            row = (
                c.execute(select(tables.apps).where(tables.apps.c.name == name)).mappings().first()
            )
        return AppRow(**row) if row else None

    def apps(self) -> list[AppRow]:
        """Every app, the newest first."""
        with self._begin() as c:
            query = select(tables.apps).order_by(tables.apps.c.created_at.desc())
            rows = c.execute(query).mappings().all()
        return [AppRow(**row) for row in rows]

    def add_revision(
        self, revision_id: str, app: str, manifest: Manifest, fingerprint: str, tag: str
    ) -> Revision:
        """Save a revision under the app's next version; the app does not serve it yet."""
        with self._begin() as c:
            last = c.scalar(
                select(func.max(tables.revisions.c.version)).where(tables.revisions.c.app == app)
            )
            revision = Revision(
                id=revision_id,
                app=app,
                version=(last or 0) + 1,
                manifest=manifest,
                fingerprint=fingerprint,
                tag=tag,
                created_at=time.time(),
            )
            c.execute(
                insert(tables.revisions).values(
                    id=revision.id,
                    app=app,
                    version=revision.version,
                    manifest=codec.dumps(manifest),
                    fingerprint=fingerprint,
                    tag=tag,
                    created_at=revision.created_at,
                )
            )
        return revision

    def remove_revision(self, revision_id: str) -> None:
        """Forget a revision that never served, or that nobody may roll back to any more."""
        t = tables.revisions
        with self._begin() as c:
            # Reading waits for nobody; without a row there is nothing to write.
            if c.scalar(select(t.c.id).where(t.c.id == revision_id)) is not None:
                c.execute(delete(t).where(t.c.id == revision_id))

    def forget_unserved(self, app: str | None = None) -> None:
        """Forget revisions, of one app or of all, whose deploy was cut off."""
        served = select(tables.apps.c.version).where(tables.apps.c.name == tables.revisions.c.app)
        cut_off = tables.revisions.c.version > func.coalesce(served.scalar_subquery(), 0)
        with self._begin() as c:
            query = delete(tables.revisions).where(cut_off)
            c.execute(query if app is None else query.where(tables.revisions.c.app == app))

    def revisions(self, app: str) -> list[Revision]:
        """Every revision of an app that can be read, the newest first."""
        query = select(tables.revisions).where(tables.revisions.c.app == app)
        with self._begin() as c:
            rows = c.execute(query.order_by(tables.revisions.c.version.desc())).mappings().all()
        found = []
        for row in rows:
            try:
                found.append(_revision(row))
            except StorageError as error:
                log.warning("%s", error.message)
        return found

    def revision(self, app: str, version: int) -> Revision:
        """One revision; `NotFound` names the app, `StorageError` says that the row is damaged."""
        t = tables.revisions.c
        query = select(tables.revisions).where(t.app == app, t.version == version)
        with self._begin() as c:
            row = c.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"the app `{app}` has no version v{version}")
        return _revision(row)

    def hashes(self) -> set[str]:
        """The SHA-256 of every file that some revision has, those that cannot be read included."""
        with self._begin() as c:
            texts = c.scalars(select(tables.revisions.c.manifest)).all()
        return {found for text in texts for found in _SHA256.findall(str(text))}

    def served(self, app: str) -> Served:
        """What `put_back` needs to undo the next change of an app."""
        t = tables.endpoints.c
        with self._begin() as c:
            rows = c.execute(select(t.id, t.app, t.local_port)).all()
        return Served(app=self.app(app), endpoints={r.id: (r.app, r.local_port) for r in rows})

    def put_back(self, app: str, before: Served) -> None:
        """Undo `serve_revision` or `stop_app`, if it has happened."""
        t = tables.endpoints.c
        now = self.served(app)
        if now.app == before.app and _of(app, now) == _of(app, before):
            return
        with self._begin() as c:
            c.execute(delete(tables.apps).where(tables.apps.c.name == app))
            if before.app is not None:
                c.execute(insert(tables.apps).values(**dataclasses.asdict(before.app)))
            taken = set(c.scalars(select(t.id).where(t.app == app)))
            c.execute(delete(tables.endpoints).where(t.app == app))
            for endpoint, (owner, port) in before.endpoints.items():
                if owner == app or endpoint in taken:
                    values = {"id": endpoint, "app": owner, "local_port": port}
                    c.execute(insert(tables.endpoints).values(**values))

    def serve_revision(self, revision: Revision, ports: dict[str, int]) -> None:
        """From now on the app is this revision, at these endpoints (id -> local port)."""
        values = {"version": revision.version, "stopped_at": None}
        with self._begin() as c:
            known = c.execute(
                update(tables.apps).where(tables.apps.c.name == revision.app).values(**values)
            )
            if not known.rowcount:
                c.execute(
                    insert(tables.apps).values(
                        name=revision.app,
                        app_id=f"ap-{randomness.token_hex(11)}",
                        created_at=time.time(),
                        **values,
                    )
                )
            c.execute(delete(tables.endpoints).where(tables.endpoints.c.app == revision.app))
            for endpoint, port in ports.items():
                # A stopped app may have had it.
                c.execute(delete(tables.endpoints).where(tables.endpoints.c.id == endpoint))
                c.execute(
                    insert(tables.endpoints).values(id=endpoint, app=revision.app, local_port=port)
                )

    def stop_app(self, name: str) -> None:
        """The app serves no more; its revisions stay, so that it can be rolled back to."""
        with self._begin() as c:
            c.execute(
                update(tables.apps).where(tables.apps.c.name == name).values(stopped_at=time.time())
            )

    def local_ports(self) -> dict[str, int]:
        """Endpoint id -> the local port that it had last."""
        with self._begin() as c:
            rows = c.execute(select(tables.endpoints.c.id, tables.endpoints.c.local_port)).all()
        return {row.id: row.local_port for row in rows}

    # secrets

    def put_secret(self, name: str, sealed: bytes, keys: list[str], *, inline: bool) -> None:
        """Create a secret, or replace the one of that name."""
        now = time.time()
        values = {"sealed": sealed, "keys": json.dumps(keys), "updated_at": now}
        with self._begin() as c:
            known = c.execute(
                update(tables.secrets).where(tables.secrets.c.name == name).values(**values)
            )
            if not known.rowcount:
                c.execute(
                    insert(tables.secrets).values(
                        name=name, inline=int(inline), created_at=now, **values
                    )
                )

    def secret(self, name: str) -> bytes | None:
        """A secret's sealed values."""
        with self._begin() as c:
            return c.scalar(select(tables.secrets.c.sealed).where(tables.secrets.c.name == name))

    def secrets(self) -> list[SecretRow]:
        """The secrets that somebody named, in the order of their names."""
        t = tables.secrets.c
        query = select(t.name, t["keys"].label("key_names"), t.created_at, t.updated_at)
        with self._begin() as c:
            rows = c.execute(query.where(t.inline == 0).order_by(t.name)).all()
        return [
            SecretRow(
                name=row.name,
                keys=_keys(row.key_names),
                created_at=row.created_at,
                updated_at=row.updated_at,
            )
            for row in rows
        ]

    def delete_secret(self, name: str) -> bool:
        """Whether there was one."""
        with self._begin() as c:
            gone = c.execute(
                delete(tables.secrets).where(
                    tables.secrets.c.name == name, tables.secrets.c.inline == 0
                )
            )
        return bool(gone.rowcount)

    def forget_inline(self, fingerprints: Collection[str]) -> None:
        """Forget secrets that came with a manifest, but for those of revisions and of these ones."""
        t, fingerprint = tables.secrets.c, tables.revisions.c.fingerprint
        with self._begin() as c:
            known = set(c.scalars(select(fingerprint))) | set(fingerprints)
            names = c.scalars(select(t.name).where(t.inline == 1)).all()
            gone = [name for name in names if name.partition("/")[0] not in known]
            if gone:
                c.execute(delete(tables.secrets).where(t.name.in_(gone)))

    # proxy tokens

    def add_token(self, row: TokenRow) -> None:
        """Save a token's hash."""
        with self._begin() as c:
            c.execute(
                insert(tables.proxy_tokens).values(
                    id=row.id,
                    name=row.name,
                    secret_sha256=row.secret_sha256,
                    created_at=row.created_at,
                )
            )

    def tokens(self) -> list[TokenRow]:
        """Every token, the oldest first."""
        t = tables.proxy_tokens
        with self._begin() as c:
            rows = c.execute(select(t).order_by(t.c.created_at)).mappings().all()
        return [TokenRow(**row) for row in rows]

    def delete_token(self, token: str) -> bool:
        """Whether there was one."""
        t = tables.proxy_tokens
        with self._begin() as c:
            return bool(c.execute(delete(t).where(t.c.id == token)).rowcount)


def _keys(text: str) -> tuple[str, ...]:
    """The keys in a row; none if it is damaged: the others are listed all the same."""
    try:
        keys = json.loads(text)
    except (ValueError, TypeError):
        return ()
    return tuple(map(str, keys)) if isinstance(keys, list) else ()


def _of(app: str, served: Served) -> dict[str, tuple[str, int]]:
    return {name: each for name, each in served.endpoints.items() if each[0] == app}


def _revision(row: RowMapping) -> Revision:
    try:
        return Revision(**{**row, "manifest": codec.loads(Manifest, row["manifest"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise StorageError(
            f"version v{row['version']} of the app `{row['app']}` cannot be read: {why}",
            hint="deploy the app again",
        ) from None


def _pragmas(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    # A deploy that was answered with "done" is there after a power cut; it is one fsync in a deploy.
    connection.execute("PRAGMA synchronous=FULL")
    # The event loop waits meanwhile, so not for long: nobody but us should write here.
    connection.execute("PRAGMA busy_timeout=2000")
