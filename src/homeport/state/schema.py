"""Brings the database to the schema of this homeport, when the server starts.

A new database gets the present tables. A database without a number, from a homeport without migrations, gets
the first number. alembic migrates an older schema in one transaction: if a migration fails, the database is
unchanged; a copy of the database as it was stays (`copies`). alembic is imported only for that: its import takes longer than all the rest of opening the store.
"""

import logging

from sqlalchemy import Connection, inspect, text

from homeport._version import __version__
from homeport.contract.errors import StorageError
from homeport.state import copies, tables, urls
from homeport.state.database import Database

FIRST = "0001"  # the schema of homes without a number
LAST_UNNUMBERED = 1  # SQLite's `user_version` of such homes; 0 in the oldest

log = logging.getLogger(__name__)


def prepare(database: Database) -> None:
    """Make or migrate the tables if needed; `StorageError` for the schema of a later homeport."""
    with database.reading() as connection:
        number_found = number(database, connection)
    if number_found == tables.SCHEMA:
        return
    if number_found is not None and database.file is not None:
        copies.keep_file(database.file, number_found)
    with database.writing() as connection:
        number_found = number(database, connection)  # another process may have been first
        if number_found is None:
            tables.metadata.create_all(connection)
            stamp(connection, tables.SCHEMA)
        elif number_found != tables.SCHEMA:
            if database.postgres:
                copies.keep_tables(connection, number_found)
            _migrate(database, connection, number_found)
        if not database.postgres:
            # So that a homeport without migrations refuses the file too.
            connection.exec_driver_sql(f"PRAGMA user_version = {int(tables.SCHEMA)}")


def check_current(database: Database, connection: Connection) -> None:
    """Raise `StorageError` for an older schema, which a start of the server would migrate."""
    if number(database, connection) != tables.SCHEMA:
        raise StorageError(
            f"{urls.shown(database.url)} has to be migrated first", hint="`homeport up` does that"
        )


def number(database: Database, connection: Connection) -> str | None:
    """Return the schema's number, None in an empty database; `StorageError` for a later one."""
    number_found = noted(database, connection)
    if number_found is not None and number_found > tables.SCHEMA:
        raise StorageError(
            f"{urls.shown(database.url)} was written by a later homeport (schema {number_found}); this one, "
            f"{__version__}, reads schemas up to {tables.SCHEMA}",
            hint="install that version again; or, to go back, `homeport restore` a backup from before the upgrade"
            + ("" if database.postgres else f" (or the copy {urls.shown(database.url)}.schema-…)"),
        )
    return number_found


def noted(database: Database, connection: Connection) -> str | None:
    """Return the number of the schema, also of a later one; None in an empty database."""
    there = set(inspect(connection).get_table_names())
    if "alembic_version" in there:
        number_found: str | None = connection.scalar(
            text("SELECT version_num FROM alembic_version")
        )
        return number_found
    if "apps" not in there:
        return None
    if database.postgres:
        return FIRST
    user_version = connection.exec_driver_sql("PRAGMA user_version").scalar() or 0
    return FIRST if user_version <= LAST_UNNUMBERED else f"{user_version:04}"


def stamp(connection: Connection, number: str) -> None:
    """Write down the schema's number."""
    if "alembic_version" not in inspect(connection).get_table_names():
        connection.execute(
            text(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
    connection.execute(text("DELETE FROM alembic_version"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:number)"), {"number": number})


def _migrate(database: Database, connection: Connection, number: str) -> None:
    from homeport.state import migrations

    log.info("migrating the database from schema %s to %s", number, tables.SCHEMA)
    stamp(connection, number)
    try:
        migrations.upgrade(connection)
    except Exception as error:
        log.exception("the migration failed")
        why = database.failure("migrated", error).message
        raise StorageError(
            f"{why}; it is as it was before (schema {number})",
            hint="install the homeport that wrote it again, and report this; server.log has the details",
        ) from None
