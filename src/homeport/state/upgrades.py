"""An upgrade and the way back, for `homeport service upgrade`.

The new version migrates a copy of the database first, so that a migration that fails is found while the old
version serves. If the new version has migrated the database, and then does not serve, the copy that was made
before the migration takes its place.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

from homeport.contract.errors import StorageError
from homeport.settings import Settings
from homeport.state import schema, tables, urls
from homeport.state.database import Database
from homeport.state.workplace import workplace


def rehearse(settings: Settings) -> dict[str, Any]:
    """Migrate a copy of the database; `StorageError` if that fails, or if this version is older than it.

    A PostgreSQL is only asked for its schema: its migration runs in one transaction.
    """
    database = Database(urls.of(settings.database, settings.home))
    try:
        if database.file is not None and not database.file.exists():
            return {"schema": tables.SCHEMA}
        with database.reading() as connection:
            schema.number(database, connection)
            if database.file is None:
                return {"schema": tables.SCHEMA}
        with workplace(settings.home) as folder:
            path = folder / "rehearsal.db"
            with (
                contextlib.closing(sqlite3.connect(database.file)) as source,
                contextlib.closing(sqlite3.connect(path)) as target,
            ):
                source.backup(target)
            copy = Database(urls.of("", folder).set(database=str(path)))
            try:
                schema.prepare(copy)
            finally:
                copy.dispose()
        return {"schema": tables.SCHEMA}
    finally:
        database.dispose()


def go_back(settings: Settings) -> dict[str, Any]:
    """Put the copy of this version's schema in the place of a database that a later version has migrated."""
    database = Database(urls.of(settings.database, settings.home))
    try:
        if database.file is None or not database.file.exists():
            return {"restored": False}
        try:
            with database.reading() as connection:
                schema.number(database, connection)
            return {"restored": False}
        except StorageError:
            copy = database.file.with_name(f"{database.file.name}.schema-{tables.SCHEMA}")
            if not copy.exists():
                raise
            _swap(database.file, copy)
            return {"restored": True}
    finally:
        database.dispose()


def _swap(file: Path, copy: Path) -> None:
    """Keep the migrated database under another name: nothing is deleted."""
    aside = file.with_name(f"{file.name}.later-{time.strftime('%Y%m%d-%H%M%S')}")
    for name in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + name).rename(aside.with_name(aside.name + name))
    file.rename(aside)
    copy.rename(file)
