"""What outlives the server: apps, revisions, endpoints, secrets, tokens.

Every method is one transaction of a millisecond or less, so they are called on the event loop.
"""

import json
import secrets as randomness
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, delete, event, func, insert, select, update
from sqlalchemy.exc import DatabaseError

from homeport.contract import codec
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.manifest import Manifest
from homeport.control import tables


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
            tables.metadata.create_all(self._engine)
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

    def add_revision(self, app: str, manifest: Manifest, fingerprint: str, tag: str) -> Revision:
        """Save a revision under the app's next version; the app does not serve it yet."""
        with self._begin() as c:
            last = c.scalar(
                select(func.max(tables.revisions.c.version)).where(tables.revisions.c.app == app)
            )
            revision = Revision(
                id=f"rv-{randomness.token_hex(6)}",
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

    def remove_revision(self, revision: Revision) -> None:
        """Forget a revision that never served."""
        with self._begin() as c:
            c.execute(delete(tables.revisions).where(tables.revisions.c.id == revision.id))
            c.execute(
                delete(tables.secrets).where(
                    tables.secrets.c.name.startswith(f"{revision.fingerprint}/"),
                    tables.secrets.c.inline == 1,
                    ~select(tables.revisions.c.id)
                    .where(tables.revisions.c.fingerprint == revision.fingerprint)
                    .exists(),
                )
            )

    def forget_unserved(self) -> None:
        """Forget revisions whose deploy a crash has cut off."""
        served = select(tables.apps.c.version).where(tables.apps.c.name == tables.revisions.c.app)
        with self._begin() as c:
            c.execute(
                delete(tables.revisions).where(
                    tables.revisions.c.version > func.coalesce(served.scalar_subquery(), 0)
                )
            )

    def revisions(self, app: str) -> list[Revision]:
        """Every revision of an app, the newest first."""
        query = select(tables.revisions).where(tables.revisions.c.app == app)
        with self._begin() as c:
            rows = c.execute(query.order_by(tables.revisions.c.version.desc())).mappings().all()
        return [
            Revision(**{**row, "manifest": codec.loads(Manifest, row["manifest"])}) for row in rows
        ]

    def revision(self, app: str, version: int) -> Revision:
        """One revision; `NotFound` names the app."""
        for revision in self.revisions(app):
            if revision.version == version:
                return revision
        raise NotFound(f"the app `{app}` has no version v{version}")

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
                keys=tuple(json.loads(row.key_names)),
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


def _pragmas(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    # WAL with NORMAL loses no consistency, at most the last deploys before a power cut.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=5000")
