"""The copy of the database that a migration leaves: it is as the earlier homeport can read it.

    SQLite      the file homeport.db.schema-0010 beside the database
    PostgreSQL  the schema `homeport_0010` in the same database, made in the transaction of the migration

`upgrades.go_back` puts it in the place of the migrated tables, which stay under another name: nothing is deleted.
"""

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from homeport.contract.errors import StorageError
from homeport.state import tables

log = logging.getLogger(__name__)


def copy_file(file: Path, target: Path) -> None:
    """Copy a SQLite file, of which others may have connections, into a new one of mode 0600."""
    with (
        contextlib.closing(sqlite3.connect(file)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        target.chmod(0o600)
        source.backup(copy)


def keep_file(file: Path, number: str) -> None:
    """Copy a SQLite file before it is migrated."""
    copy = _beside(file, number)
    part = copy.with_name(f"{copy.name}.part")
    try:
        copy_file(file, part)
        part.replace(copy)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"{file} has to be migrated, and a copy of it cannot be kept: {error}",
            hint="make room on the disk",
        ) from None


def keep_tables(connection: Connection, number: str) -> None:
    """Copy the tables of a PostgreSQL, in the transaction that migrates them.

    The right to make a schema may be missing: then the migration continues without a copy, and cannot be undone.
    """
    connection.execute(text("SET LOCAL statement_timeout = 0"))  # copies may be long
    place = _place(number)
    try:
        with connection.begin_nested():
            connection.execute(text(f"DROP SCHEMA IF EXISTS {place} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {place}"))
            for name in inspect(connection).get_table_names():
                connection.execute(text(f'CREATE TABLE {place}."{name}" AS TABLE "{name}"'))
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", error)).partition("\n")[0]
        log.warning("no copy of the tables is kept before the migration: %s", why)


def put_back_file(file: Path, number: str) -> None:
    """Put the copy in the place of the migrated file; `StorageError` if there is none.

    There is a database at each moment: where none is, the next server would begin an empty one.
    """
    copy = _beside(file, number)
    if not copy.exists():
        raise StorageError(
            f"there is no copy {copy} of the database before its migration",
            hint="restore a backup from before the upgrade with `homeport restore`",
        )
    aside = file.with_name(f"{file.name}.later-{_now()}")
    # A server that was killed leaves them, and SQLite would write them into the copy.
    for name in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + name).rename(aside.with_name(aside.name + name))
    aside.hardlink_to(file)
    copy.replace(file)


def put_back_tables(connection: Connection, number: str) -> None:
    """Put the copied tables in the place of the migrated ones; `StorageError` if there is no copy."""
    place, aside = _place(number), f"homeport_later_{_now().replace('-', '_')}"
    look = inspect(connection)
    if place not in look.get_schema_names():
        raise StorageError(
            f"the database has no copy `{place}` of its tables before the migration",
            hint="restore a backup from before the upgrade with `homeport restore`",
        )
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text(f"CREATE SCHEMA {aside}"))
    for name in look.get_table_names():
        connection.execute(text(f'ALTER TABLE "{name}" SET SCHEMA {aside}'))
    tables.metadata.create_all(connection)
    for table in tables.metadata.sorted_tables:
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        connection.execute(
            text(
                f'INSERT INTO "{table.name}" ({columns}) SELECT {columns} FROM {place}."{table.name}"'  # noqa: S608
            )
        )
    connection.execute(text(f"DROP SCHEMA {place} CASCADE"))


def _beside(file: Path, number: str) -> Path:
    return file.with_name(f"{file.name}.schema-{number}")


def _place(number: str) -> str:
    assert number.isdigit()
    return f"homeport_{number}"


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")
