"""`homeport backup` and `homeport restore`, in a process of their own: `python -m homeport.state`.

A backup is enough to start again on another machine: it has the rows, the files of every kept version,
`config.toml`, and the key that decrypts the secrets. Everyone who can read the file can read the secrets, so
its mode is 0600. Logs and built images are not in it. It can be made while a server runs: all rows are of the
same moment.

A restore replaces the rows in one transaction. Until that, nothing that exists has changed.
"""

import contextlib
import fcntl
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, delete, func, insert, select

from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.settings import Settings, read_config
from homeport.state import archive, schema, tables, urls
from homeport.state.database import Database

ROWS_AT_ONCE = 200
TRIES = 3  # at a moment in which no file of a version is just being removed
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The contents of a backup."""

    made_at: float
    homeport: str
    apps: int
    secrets: int
    missing: int = 0  # files of versions that the home itself does not have
    volumes: tuple[str, ...] = ()  # their names and ids are in it, and their files are not


def make(settings: Settings, target: Path, *, force: bool) -> Summary:
    """Write a backup of the home; `AlreadyExists` for an existing file, without `force`."""
    archive.refuse_existing(target, force=force)
    home, url = settings.home, urls.of(settings.database, settings.home)
    key = home / archive.KEY
    if not key.is_file() or (urls.is_sqlite(url) and not Path(url.database or "").is_file()):
        raise NotFound(f"there is nothing in {home} yet", hint="HOMEPORT_HOME names another home")
    database = Database(url)
    try:
        with archive.workplace(target.parent) as folder:
            rows = folder / archive.ROWS
            for _ in range(TRIES):
                rows.unlink(missing_ok=True)
                _snapshot(database, rows)
                blobs = {name: home / "blobs" / name[:2] / name for name in _hashes(rows)}
                there = {name: path for name, path in blobs.items() if path.is_file()}
                if len(there) == len(blobs):
                    break
            files = {archive.ROWS: rows, archive.KEY: key}
            if (config := home / archive.CONFIG).is_file():
                files[archive.CONFIG] = config
            made_at = time.time()
            archive.write(target, made_at, files, there)
            return _summary(rows, made_at, archive.version(), len(blobs) - len(there))
    finally:
        database.dispose()


def check(source: Path, parent: Path) -> Summary:
    """Read all of a backup; an error says why it cannot be restored here."""
    with archive.workplace(parent) as folder, _unpacked(source, folder) as contents:
        return _summary(folder / archive.ROWS, contents.made_at, contents.homeport, 0)


def restore(settings: Settings, source: Path, *, force: bool) -> Summary:
    """Replace the home's state by the backup's; without `force` only if the home is empty."""
    home = settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        _locked(home),
        archive.workplace(home) as folder,
        _unpacked(source, folder) as contents,
    ):
        database = Database(urls.of(_setting(settings, folder), home))
        try:
            _refuse_full(database, home, force=force)
            database.claim()
            schema.prepare(database)
            _move_blobs(folder, home)
            _replace(database, folder, home)
        finally:
            database.dispose()
        return _summary(folder / archive.ROWS, contents.made_at, contents.homeport, 0)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(
                f"a server uses {home}: nothing has been changed", hint="`homeport down` ends it"
            ) from None
        yield


@contextlib.contextmanager
def _unpacked(source: Path, folder: Path) -> Iterator[archive.Contents]:
    """Unpack a backup into the folder, and migrate its rows to the present schema."""
    contents = archive.unpack(source, folder)
    database = Database(urls.of("", folder).set(database=str(folder / archive.ROWS)))
    try:
        schema.prepare(database)
    except StorageError as error:
        raise BadRequest(f"{source} cannot be restored: {error.message}", hint=error.hint) from None
    finally:
        database.dispose()
    yield contents


def _setting(settings: Settings, folder: Path) -> str:
    """Return the database that the home will use, which a restored `config.toml` may name."""
    if settings.database or (settings.home / archive.CONFIG).exists():
        return settings.database
    return str(read_config(folder / archive.CONFIG).get("database", ""))


def _refuse_full(database: Database, home: Path, *, force: bool) -> None:
    """Raise `AlreadyExists` if the home has data; with `force`, move a damaged database file aside."""
    if database.file is not None and not database.file.exists():
        return
    if database.file is not None and not _sound(database.file):
        if not force:
            raise AlreadyExists(
                f"{database.file} is damaged",
                hint="`--force` puts it aside and restores the backup",
            )
        database.dispose()
        for name in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path = database.file.with_name(database.file.name + name)
                path.rename(path.with_name(f"{database.file.name}.damaged{name}"))
        return
    counted = (tables.apps, tables.revisions, tables.secrets, tables.proxy_tokens, tables.volumes)
    with database.reading() as connection:
        made = schema.number(database, connection) is not None
        if made and not force and any(_count(connection, table) for table in counted):
            raise AlreadyExists(
                f"{home} has apps, secrets, tokens or volumes already",
                hint="`--force` replaces all of them by those of the backup",
            )


def _replace(database: Database, folder: Path, home: Path) -> None:
    """Replace rows, key and settings; if the rows cannot be replaced, restore the old key."""
    key, old = home / archive.KEY, home / f"{archive.KEY}.before-restore"
    source = Database(urls.of("", folder).set(database=str(folder / archive.ROWS)))
    try:
        with source.reading() as theirs, database.writing() as ours:
            for table in tables.metadata.sorted_tables:
                ours.execute(delete(table))
                _copy(theirs, ours, table)
            # Late, so that little can fail after it: the next line commits the rows.
            old.unlink(missing_ok=True)
            if key.exists():
                key.replace(old)
            (folder / archive.KEY).replace(key)
    except BaseException:
        if old.exists():
            old.replace(key)
        raise
    finally:
        source.dispose()
    config = folder / archive.CONFIG
    if config.exists() and not (home / archive.CONFIG).exists():
        config.replace(home / archive.CONFIG)
    archive.sync(home)


def _move_blobs(folder: Path, home: Path) -> None:
    """Move the blobs to the home; a blob has no effect until a row names it."""
    for path in folder.glob("blobs/*"):
        target = home / "blobs" / path.name[:2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        archive.sync(target.parent)


def _snapshot(database: Database, target: Path) -> None:
    """Copy all rows of one moment into a new SQLite file."""
    if database.file is not None:
        with (
            database.reading() as connection,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.backup(copy)
        target.chmod(0o600)
        if not _sound(target):
            raise StorageError(
                f"{database.file} is damaged: a backup of it could not be restored",
                hint="restore an earlier backup",
            )
        return
    copied = Database(urls.of("", target.parent).set(database=str(target)))
    try:
        schema.prepare(copied)
        with database.snapshot() as theirs, copied.writing() as ours:
            schema.check_current(database, theirs)
            for table in tables.metadata.sorted_tables:
                _copy(theirs, ours, table)
    finally:
        copied.dispose()


def _copy(source: Connection, target: Connection, table: Table) -> None:
    found = source.execute(select(table)).mappings()
    for rows in found.partitions(ROWS_AT_ONCE):
        target.execute(insert(table), [dict(row) for row in rows])


def _hashes(rows: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(rows)) as connection:
        texts = connection.execute("SELECT manifest FROM revisions")
        return {found for (text,) in texts for found in _SHA256.findall(str(text))}


def _summary(rows: Path, made_at: float, homeport: str, missing: int) -> Summary:
    with contextlib.closing(sqlite3.connect(rows)) as connection:
        [(apps,)] = connection.execute("SELECT count(*) FROM apps WHERE stopped_at IS NULL")
        [(secrets,)] = connection.execute("SELECT count(*) FROM secrets WHERE inline = 0")
        known = "SELECT 1 FROM sqlite_master WHERE name = 'volumes'"  # not before schema 0003
        named = "SELECT name FROM volumes WHERE name IS NOT NULL ORDER BY name"
        volumes = connection.execute(named).fetchall() if [*connection.execute(known)] else []
    return Summary(
        made_at=made_at,
        homeport=homeport,
        apps=apps,
        secrets=secrets,
        missing=missing,
        volumes=tuple(name for (name,) in volumes),
    )


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _sound(path: Path) -> bool:
    """Return whether SQLite can read every page of a file."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
        ) as c:
            return bool(c.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False
