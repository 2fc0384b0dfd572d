"""An upgrade and the way back, for `homeport service upgrade`.

The new version migrates a copy of the database first, so that a migration that fails is found while the old
version serves. The migration itself leaves a copy of the database as it was at that moment (`copies`): the old version
had written its last row by then. To go back, that copy takes the place of what was migrated. A copy that the upgrade
makes itself, earlier, would lack what is written until the hand-over; and to migrate later, once the new server has
proved itself, is impossible, because it cannot run on a schema that it does not know.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from homeport.contract.errors import StorageError
from homeport.contract.starting import LOCK
from homeport.settings import Settings
from homeport.state import copies, schema, tables, urls
from homeport.state.database import Database
from homeport.state.workplace import workplace

PATIENCE_S = 150.0  # for the later server, which may hang, to end
#: Servers of the version before begin, and end again, while the database is a later one.
LOOK_S = 0.02


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
            copies.copy_file(database.file, path)
            copy = Database(urls.of("", folder).set(database=str(path)))
            try:
                schema.prepare(copy)
            finally:
                copy.dispose()
        return {"schema": tables.SCHEMA}
    finally:
        database.dispose()


def go_back(settings: Settings, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Put the copy of this version's schema in the place of a database that a later version has migrated.

    It waits until no server has the home: the later one is ending, and this version's ends again until the database
    is one that it can read. `StorageError` if there is no copy, or if a server does not end.
    """
    database = Database(urls.of(settings.database, settings.home))
    try:
        if (database.file is not None and not database.file.exists()) or not _is_later(database):
            return {"restored": False}
        with _alone(settings.home, patience_s, lambda: _is_later(database)) as is_alone:
            if not is_alone:
                return {"restored": False}
            if database.file is not None:
                database.dispose()
                copies.put_back_file(database.file, tables.SCHEMA)
            else:
                database.claim()
                with database.writing() as connection:
                    copies.put_back_tables(connection, tables.SCHEMA)
                    schema.stamp(connection, tables.SCHEMA)
            return {"restored": True}
    finally:
        database.dispose()


def _is_later(database: Database) -> bool:
    with database.reading() as connection:
        number = schema.noted(database, connection)
    return number is not None and number > tables.SCHEMA


@contextlib.contextmanager
def _alone(home: Path, patience_s: float, is_needed: Callable[[], bool]) -> Iterator[bool]:
    """Hold the home as a server does; False if that is not needed any more once it is free."""
    deadline = time.monotonic() + patience_s
    with (home / LOCK).open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"a server still uses {home}: its database cannot be put back",
                        hint="end the server, and run `homeport service upgrade` again",
                    ) from None
                time.sleep(LOOK_S)
                continue
            yield is_needed()
            return
