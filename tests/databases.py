"""A database with the newest tables for a test, without the work of making them each time."""

import functools
import sqlite3
import tempfile
from collections.abc import MutableMapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, event

from homeport.state import schema, urls
from homeport.state.database import Database
from tests import postgres


def opened(
    home: Path, executor: Executor | None = None, *, server: postgres.Postgres | None = None
) -> Database:
    """Return the open database of a home: a file, or a database of this PostgreSQL, or with `--postgres` of that one."""
    if (server := server or postgres.everywhere) is not None:
        url = server.url_of(home, template=_template(server))
        return Database(urls.of(url, home), executor)
    return copied(home, executor)


def copied(home: Path, executor: Executor | None = None) -> Database:
    """Return the open database of a home, as a file: a copy, never flushed to the disk, for no test of these cuts the power."""
    database = Database(urls.of("", home), executor)
    assert database.file is not None
    if not database.file.exists():
        database.file.write_bytes(_empty())
    engine = database._engine
    event.listen(engine, "connect", _unflushed)
    engine.dialect, engine._compiled_cache = _compiled(engine)
    with database.reading():
        pass  # from its first connection on, it knows its file, and makes no other when that is away
    return database


_shared: list[Engine] = []


def _compiled(engine: Engine) -> tuple[Dialect, MutableMapping[Any, Any]]:
    """Return what one engine has compiled, for all of them: a statement is compiled once, not for each test."""
    if not _shared:
        _shared.append(engine)
    return _shared[0].dialect, _shared[0]._compiled_cache


@functools.cache
def _template(server: postgres.Postgres) -> str:
    database = Database(urls.of(server.url("template_of_tests"), Path()))
    schema.prepare(database)
    database.dispose()
    return "template_of_tests"


def _unflushed(raw: sqlite3.Connection, _record: object) -> None:
    raw.execute("PRAGMA synchronous=OFF")


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as home:
        database = Database(urls.of("", Path(home)))
        schema.prepare(database)
        database.dispose()
        assert database.file is not None
        return database.file.read_bytes()
