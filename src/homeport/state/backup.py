"""`homeport backup` and `homeport restore`, in a process of their own: `python -m homeport.state`.

A backup is enough to start again on another machine: it has the rows, the files of every kept version, the
files of volumes that were asked for, and, under a passphrase, the files that open everything else: `vault.key`,
`config.toml`, and the certificates with their keys. Logs and built images are not in it. It can be made while a
server runs: all rows are of the same moment.

A restore replaces the rows in one transaction. Until that, nothing that exists has changed, or it is undone; after
that, nothing is undone, and what could not be put in its place is named.
"""

import contextlib
import fcntl
import sqlite3
import time
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select

from homeport import private
from homeport.contract.api.audit import AuditEntry
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.contract.starting import LOCK
from homeport.settings import Settings, read_config
from homeport.state import (
    archive,
    audit,
    backup_rows,
    blobs,
    restoring,
    schema,
    tables,
    urls,
    volume_files,
)
from homeport.state.backup_rows import Summary
from homeport.state.database import Database
from homeport.state.passphrase import check_new
from homeport.state.volume_files import Restored
from homeport.state.workplace import workplace

ROWS_AT_ONCE = 200
#: A home with a row in one of them is not replaced by accident.
_KEPT = (
    tables.apps,
    tables.revisions,
    tables.secrets,
    tables.proxy_tokens,
    tables.api_tokens,
    tables.volumes,
    tables.objects,
    tables.dict_items,
    tables.queue_items,
    tables.calls,
    tables.domains,
)


def make(
    settings: Settings,
    target: Path,
    *,
    force: bool,
    passphrase: str = "",
    volumes: Collection[str] | None = (),
) -> Summary:
    """Write a backup of the home; `AlreadyExists` for an existing file, without `force`.

    `volumes` are the names of those whose files are added; None: all. Without a passphrase, anyone who has the file
    has the secrets.
    """
    archive.refuse_existing(target, force=force)
    if passphrase:
        check_new(passphrase)
    home, url = settings.home, urls.of(settings.database, settings.home)
    key = home / archive.KEY
    if not key.is_file() or (urls.is_sqlite(url) and not Path(url.database or "").is_file()):
        raise NotFound(f"there is nothing in {home} yet", hint="HOMEPORT_HOME names another home")
    database = Database(url)
    try:
        with workplace(target.parent) as folder, blobs.unswept(home / "blobs"):
            rows = folder / archive.ROWS
            _snapshot(database, rows)
            uploads = {f"blobs/{h}": home / "blobs" / h[:2] / h for h in backup_rows.hashes(rows)}
            keys = backup_rows.chosen(rows, volumes)
            made_at = time.time()
            missing = archive.write(
                target,
                folder,
                made_at,
                passphrase=passphrase,
                private=_private(home),
                files={archive.ROWS: rows, **uploads},
                add_volumes=lambda into: volume_files.add(settings.volumes_dir, list(keys), into),
            )
            _record(database, "backup", str(target))
            return backup_rows.summary(rows, made_at, archive.version(), missing, with_files=keys)
    finally:
        database.dispose()


def check(source: Path, parent: Path, *, passphrase: str = "") -> Summary:
    """Read all of a backup; an error says why it cannot be restored here."""
    with workplace(parent) as folder, _unpacked(source, folder, passphrase) as (contents, volumes):
        return _summary_of_restored(folder, contents, volumes)


def restore(settings: Settings, source: Path, *, force: bool, passphrase: str = "") -> Summary:
    """Replace the home's state by the backup's; without `force` only if the home is empty."""
    home = settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        _locked(home),
        workplace(home) as folder,
        _unpacked(source, folder, passphrase) as (contents, volumes),
    ):
        database = Database(urls.of(_setting(settings, contents), home))
        try:
            _refuse_full(database, home, force=force)
            database.claim()
            schema.prepare(database)
            restoring.move_blobs(folder, home)
            files = restoring.unwrapped(folder, home, contents.private)
            with restoring.undisturbed():
                with restoring.moved_volumes(
                    folder / "volumes", volumes.keys, settings.volumes_dir
                ):
                    _replace(database, folder, home, contents)
                restoring.put(files, home)
            _record(database, "restore", str(source))
        finally:
            database.dispose()
        return _summary_of_restored(folder, contents, volumes)


def _record(database: Database, action: str, target: str) -> None:
    """Add a row to the audit log; a backup of an older schema has none, because its database has no such table."""
    entry = AuditEntry(by="socket", action=action, result="ok", target=target)
    with contextlib.suppress(StorageError):
        audit.write(database, entry)


def _private(home: Path) -> dict[str, bytes]:
    """Return the files that open everything else, by their paths in the home."""
    private = {archive.KEY: (home / archive.KEY).read_bytes()}
    if (config := home / archive.CONFIG).is_file():
        private[archive.CONFIG] = config.read_bytes()
    for folder in archive.CERTIFICATES:
        for path in sorted((home / folder).rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # it was renewed just now
                if path.is_file() and not path.is_symlink():
                    private[str(path.relative_to(home))] = path.read_bytes()
    return private


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(
                f"a server uses {home}: nothing has been changed", hint="`homeport down` ends it"
            ) from None
        yield


@contextlib.contextmanager
def _unpacked(
    source: Path, folder: Path, passphrase: str
) -> Iterator[tuple[archive.Contents, Restored]]:
    """Unpack a backup into the folder, and migrate its rows to the present schema."""
    volumes = Restored(folder / "volumes")
    contents = archive.unpack(source, folder, passphrase=passphrase, volumes=volumes)
    volumes.finish()
    database = Database(urls.of("", folder).set(database=str(folder / archive.ROWS)))
    try:
        schema.prepare(database)
    except StorageError as error:
        raise BadRequest(f"{source} cannot be restored: {error.message}", hint=error.hint) from None
    finally:
        database.dispose()
    if not set(volumes.keys) <= set(backup_rows.volumes_of(folder / archive.ROWS)):
        raise BadRequest(
            f"{source} is damaged: it has files of a volume without its row",
            hint="nothing has been changed; use another backup",
        )
    if (config := contents.private.get(archive.CONFIG)) is not None:
        (folder / archive.CONFIG).write_bytes(config)
        read_config(folder / archive.CONFIG)
    yield contents, volumes


def _setting(settings: Settings, contents: archive.Contents) -> str:
    """Return the database that the home will use, which a restored `config.toml` may name."""
    if settings.database or (settings.home / archive.CONFIG).exists():
        return settings.database
    config = contents.private.get(archive.CONFIG, b"")
    return str(tomllib.loads(config.decode()).get("database", ""))


def _refuse_full(database: Database, home: Path, *, force: bool) -> None:
    """Raise `AlreadyExists` if the home has data; with `force`, move a damaged database file aside."""
    if database.file is not None and not database.file.exists():
        return
    if database.file is not None and not backup_rows.is_sound(database.file):
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
    with database.reading() as connection:
        has_schema = schema.number(database, connection) is not None
        if has_schema and not force and any(_count(connection, table) for table in _KEPT):
            raise AlreadyExists(
                f"{home} has apps, secrets, tokens, volumes or other data already",
                hint="`--force` replaces all of them by those of the backup",
            )


def _replace(database: Database, folder: Path, home: Path, contents: archive.Contents) -> None:
    """Replace the rows and the key; after an error both are as before."""
    key, old = home / archive.KEY, home / f"{archive.KEY}.before-restore"
    fresh = folder / archive.KEY
    private.write(fresh, contents.private[archive.KEY])
    source = Database(urls.of("", folder).set(database=str(folder / archive.ROWS)))
    is_aside = False
    try:
        with source.reading() as theirs, database.writing() as ours:
            joined = _own_nodes(ours, home, contents)
            for table in tables.metadata.sorted_tables:
                ours.execute(delete(table))
                if table is tables.nodes and joined is not None:
                    if joined:
                        ours.execute(insert(table), joined)
                elif table is not tables.node_tokens:  # one that was used would be valid again
                    _copy(theirs, ours, table)
            # Late, so that little can fail after it: the next line commits the rows.
            if key.exists():
                key.replace(old)
                is_aside = True
            fresh.replace(key)
    except BaseException:
        if is_aside:  # else `old` is the key that an earlier restore has put there
            old.replace(key)
        raise
    finally:
        source.dispose()


def _own_nodes(
    connection: Connection, home: Path, contents: archive.Contents
) -> list[dict[str, Any]] | None:
    """Return the machines that the home itself has, if it has the backup's cluster: it knows who was removed since.

    None: the backup's are to be restored.
    """
    ca = home / archive.CLUSTER_CA
    if not ca.is_file() or not any(_count(connection, table) for table in (*_KEPT, tables.nodes)):
        return None
    if contents.private.get(archive.CLUSTER_CA, ca.read_bytes()) != ca.read_bytes():
        return None
    return [dict(row) for row in connection.execute(select(tables.nodes)).mappings()]


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
        if not backup_rows.is_sound(target):
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
    source_rows = source.execute(select(table)).mappings()
    for rows in source_rows.partitions(ROWS_AT_ONCE):
        target.execute(insert(table), [dict(row) for row in rows])


def _summary_of_restored(folder: Path, contents: archive.Contents, volumes: Restored) -> Summary:
    rows = folder / archive.ROWS
    return backup_rows.summary(
        rows, contents.made_at, contents.homeport, 0, with_files=volumes.keys
    )


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0
