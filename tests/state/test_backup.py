"""A backup has everything that a home needs, and a restore changes all of it or nothing."""

import dataclasses
import errno
import gzip
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile

import pytest

from homeport.contract.errors import (
    AlreadyExists,
    BadRequest,
    Failure,
    NotFound,
    StorageError,
)
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef, SourceFile
from homeport.settings import Settings
from homeport.state import archive, backup, schema, urls
from homeport.state.blobs import Blobs
from homeport.state.database import Database
from homeport.state.secret_rows import SecretRows
from homeport.state.secrets import SecretBox
from homeport.state.store import Store
from homeport.state.vault import Vault
from homeport.state.volumes import Volumes
from tests import trees

SCRIPT = b"print('hello')"
DIGEST = hashlib.sha256(SCRIPT).hexdigest()
SECRET = FunctionSpec(name="f", module="m", qualname="f", secrets=(SecretRef(name="auth"),))


async def fill(settings: Settings, app: str = "shop") -> None:
    """Fill a home with an app, its file and a secret."""
    settings.home.mkdir(exist_ok=True)
    database = Database(urls.of(settings.database, settings.home))
    schema.prepare(database)
    store = Store(database)

    async def content():
        yield SCRIPT

    await Blobs(settings.home / "blobs").put(DIGEST, content())
    files = (SourceFile(path="script.py", sha256=DIGEST, size_bytes=len(SCRIPT)),)
    manifest = Manifest(app_name=app, functions=(SECRET,), files=files)
    revision = await store.add_revision(f"rv-{app}", app, manifest, "f", "")
    await store.serve_revision(revision, {f"me--{app}-f": 4664})
    box = SecretBox(SecretRows(store.database), Vault(settings.home / "vault.key"))
    await box.load()
    await box.create("auth", {"TOKEN": f"of {app}"}, force=True)
    await database.close()


async def look(settings: Settings) -> dict[str, object]:
    """Return what a server finds in a home."""
    database = Database(urls.of(settings.database, settings.home))
    schema.prepare(database)
    store = Store(database)
    box = SecretBox(SecretRows(store.database), Vault(settings.home / "vault.key"))
    await box.load()
    state = {
        "apps": [dataclasses.astuple(row) for row in await store.apps()],
        "revisions": [r for row in await store.apps() for r in await store.revisions(row.name)],
        "ports": await store.local_ports(),
        "secret": box.environ(SECRET) if await box.list() else {},
        "blobs": sorted(path.name for path in (settings.home / "blobs").glob("*/" + "?" * 64)),
    }
    await database.close()
    return state


def files_of(home) -> dict[str, bytes]:
    """Return every file except those that SQLite makes while a process reads."""
    return {
        str(path.relative_to(home)): content
        for path, content in trees.files(home).items()
        if not path.name.endswith(("-wal", "-shm")) and path.name != "lock"
    }


@pytest.fixture
async def settings(database_setting, tmp_path):
    settings = Settings(home=tmp_path / "home", database=database_setting)
    await fill(settings)
    return settings


@pytest.fixture
def file(settings, tmp_path):
    path = tmp_path / "a.backup"
    backup.make(settings, path, force=False)
    return path


async def test_a_backup_brings_everything_back_on_another_machine(settings, file, tmp_path):
    (settings.home / "config.toml").write_text('workspace = "ada"\n')
    summary = backup.make(settings, file, force=True)
    other = Settings(home=tmp_path / "other")
    restored = backup.restore(other, file, force=False)

    assert (1, 1, 0) == (summary.apps, summary.secrets, summary.missing)
    assert summary == restored
    assert await look(settings) == await look(other)
    assert 'workspace = "ada"\n' == (other.home / "config.toml").read_text()
    assert 0o600 == file.stat().st_mode & 0o777
    for path in (other.home / "vault.key", other.home / "homeport.db", other.home / "config.toml"):
        assert 0 == path.stat().st_mode & 0o022


async def test_a_restore_replaces_all_that_came_later_and_keeps_the_settings(settings, file):
    before = await look(settings)
    (settings.home / "config.toml").write_text('workspace = "mine"\n')
    await fill(settings, "blog")
    assert await look(settings) != before

    with pytest.raises(AlreadyExists, match="has apps, secrets, tokens, volumes or other data"):
        backup.restore(settings, file, force=False)
    assert await look(settings) != before
    backup.restore(settings, file, force=True)
    assert await look(settings) == before
    assert 'workspace = "mine"\n' == (settings.home / "config.toml").read_text()
    assert not list(settings.home.glob(".homeport-*"))


async def test_rows_move_from_one_kind_of_database_to_the_other(settings, file, postgres, tmp_path):
    there = Settings(home=tmp_path / "there", database=postgres.url_of(tmp_path / "there"))
    backup.restore(there, file, force=False)
    again = tmp_path / "again.backup"
    backup.make(there, again, force=False)
    back = Settings(home=tmp_path / "back")
    backup.restore(back, again, force=False)

    assert await look(settings) == await look(there)
    assert await look(settings) == await look(back)


async def test_a_backup_is_of_one_moment_while_others_write(settings, tmp_path, monkeypatch):
    # Its row in the audit log waits for the transaction, which ends only after the backup.
    monkeypatch.setattr("homeport.state.database.BUSY_S", 0.1)
    database = Database(urls.of(settings.database, settings.home))
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM apps")
        backup.make(settings, tmp_path / "during", force=False)
    database.dispose()
    other = Settings(home=tmp_path / "other")

    assert 1 == backup.restore(other, tmp_path / "during", force=False).apps


async def test_a_file_that_is_swept_during_a_backup_is_in_it(settings, tmp_path):
    kept = Blobs(settings.home / "blobs")
    old = settings.home / "blobs" / DIGEST[:2] / DIGEST
    os.utime(old, (0, 0))

    class Names(list):
        """The names of volumes, which are read once the rows are copied."""

        def __iter__(self):
            kept._sweep(frozenset(), 1.0)
            return super().__iter__()

    summary = backup.make(settings, tmp_path / "during", force=False, volumes=Names())
    was_there = old.exists()
    await kept.sweep((), 0.0)

    assert (0, True, False) == (summary.missing, was_there, old.exists())
    assert DIGEST in (await look_at(tmp_path / "during", tmp_path / "other"))["blobs"]


async def test_a_file_that_the_home_has_lost_is_counted_and_ends_no_backup(settings, tmp_path):
    (settings.home / "blobs" / DIGEST[:2] / DIGEST).unlink()
    summary = backup.make(settings, tmp_path / "without", force=False)

    assert 1 == summary.missing
    assert [] == (await look_at(tmp_path / "without", tmp_path / "other"))["blobs"]


async def look_at(file, home) -> dict[str, object]:
    """Restore a backup into a new home; return what a server finds there."""
    backup.restore(Settings(home=home), file, force=False)
    return await look(Settings(home=home))


async def test_another_key_is_kept_beside_the_one_of_the_backup(settings, file, tmp_path):
    other = Settings(home=tmp_path / "other")
    await fill(other, "mine")
    own = (other.home / "vault.key").read_bytes()
    backup.restore(other, file, force=True)

    assert own == (other.home / "vault.key.before-restore").read_bytes()
    assert {"TOKEN": "of shop"} == (await look(other))["secret"]


async def test_a_damaged_database_is_put_aside(file, tmp_path):
    home = tmp_path / "damaged"
    home.mkdir()
    (home / "homeport.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(AlreadyExists, match="is damaged"):
        backup.restore(Settings(home=home), file, force=False)
    backup.restore(Settings(home=home), file, force=True)

    assert ["shop"] == [row[0] for row in (await look(Settings(home=home)))["apps"]]
    assert (home / "homeport.db.damaged").read_bytes().startswith(b"no database")


async def test_the_backup_of_a_damaged_database_is_refused(tmp_path):
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    path = settings.home / "homeport.db"
    with path.open("r+b") as file:
        file.seek(os.path.getsize(path) // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StorageError):
        backup.make(settings, tmp_path / "a.backup", force=False)

    assert ["home"] == [path.name for path in tmp_path.iterdir()]


def rewritten(source, target, change, *, resigned=False) -> None:
    """Rewrite a backup: `change(name, content)` returns members; None drops it. `resigned`: with a new digest."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        writer = archive._Writer(new)
        for member in old:
            name, content = member.name, old.extractfile(member).read()
            if name == archive.END and resigned:
                ending = {**json.loads(content), "sha256": writer.digest.hexdigest()}
                content = json.dumps(ending).encode()
            for entry, text in change(name, content) or ():
                writer.text(entry, text)


def in_contents(**changes):
    def change(name, content):
        if name == archive.CONTENTS:
            content = json.dumps({**json.loads(content), **changes}).encode()
        return [(name, content)]

    return change


DAMAGE = {
    "a file that is no backup": lambda _n, _c: [],
    "another content": lambda n, c: [(n, c + b"x" if n.startswith("blobs/") else c)],
    "other rows": lambda n, c: [(n, c + b"x" if n == archive.ROWS else c)],
    "other private files": lambda n, c: [(n, c[:-1] + b"x" if n == archive.PRIVATE else c)],
    "a missing blob": lambda n, c: None if n.startswith("blobs/") else [(n, c)],
    "missing private files": lambda n, c: None if n == archive.PRIVATE else [(n, c)],
    "no rows": lambda n, c: None if n == archive.ROWS else [(n, c)],
    "no end": lambda n, c: None if n == archive.END else [(n, c)],
    "more after the end": lambda n, c: [(n, c), *([("blobs/x", b"")] if n == archive.END else [])],
    "a path outside": lambda n, c: [(n, c), *([("../evil", b"x")] if n == archive.ROWS else [])],
    "a path of its own": lambda n, c: [(n, c), *([("/etc/x", b"x")] if n == archive.ROWS else [])],
    "a volume outside": lambda n, c: [
        (n, c),
        *([(f"volumes/a/../vo-{'0' * 22}/files/x", b"x")] if n == archive.ROWS else []),
    ],
    "contents of another shape": in_contents(lock=[]),
    "a passphrase that costs all memory": in_contents(
        lock={"salt": "0" * 32, "n": 2**40, "r": 8, "p": 1}
    ),
    "no contents": lambda n, c: None if n == archive.CONTENTS else [(n, c)],
    "its contents under another name": lambda n, c: [("x" if n == archive.CONTENTS else n, c)],
    "a later format": in_contents(format=99, homeport="9.9"),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_or_later_backup_changes_nothing(kind, settings, file, tmp_path):
    spoiled = tmp_path / "spoiled"
    rewritten(file, spoiled, DAMAGE[kind])
    before, content = files_of(settings.home), await look(settings)
    with pytest.raises(BadRequest, match=r"damaged|later homeport") as refusal:
        backup.restore(settings, spoiled, force=True)

    assert "nothing has been changed" in refusal.value.hint
    assert before == files_of(settings.home)
    assert content == await look(settings)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
async def test_a_backup_that_was_cut_off_changes_nothing(share, settings, file, tmp_path):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    content = await look(settings)
    with pytest.raises(BadRequest, match="is damaged"):
        backup.restore(settings, file, force=True)

    assert content == await look(settings)
    assert not list(settings.home.glob(".homeport-*"))


async def test_a_backup_with_a_later_schema_is_refused(settings, file, tmp_path):
    def later(name, content):
        if name == archive.ROWS:
            path = tmp_path / "rows.db"
            path.write_bytes(content)
            with sqlite3.connect(path) as connection:
                connection.execute("UPDATE alembic_version SET version_num = '0099'")
            connection.close()
            content = path.read_bytes()
        return [(name, content)]

    final = tmp_path / "final"
    rewritten(file, final, later, resigned=True)
    content = await look(settings)
    with pytest.raises(BadRequest, match="by a later homeport"):
        backup.restore(settings, final, force=True)

    assert content == await look(settings)


async def test_a_server_that_runs_is_left_alone(settings, file):
    import fcntl

    with (settings.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(AlreadyExists, match="a server uses"):
            backup.restore(settings, file, force=True)
    if settings.database:  # of another home
        database = Database(urls.of(settings.database, settings.home))
        database.claim()
        with pytest.raises(StorageError, match="another server uses"):
            backup.restore(settings, file, force=True)
        database.dispose()


async def test_a_full_disk_leaves_no_half_of_a_backup(settings, file, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.backup")

    before = file.read_bytes()
    monkeypatch.setattr(archive.tarfile.TarFile, "addfile", full)
    with pytest.raises(StorageError, match="No space left"):
        backup.make(settings, file, force=True)
    with pytest.raises(StorageError, match="No space left"):
        backup.make(settings, tmp_path / "b.backup", force=False)

    assert before == file.read_bytes()
    assert {"home", "a.backup"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("at", ["unpacking", "the rows", "the key"])
async def test_a_full_disk_during_a_restore_changes_nothing(at, settings, file, monkeypatch):
    await fill(settings, "blog")
    before = await look(settings)

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "it")

    if at == "unpacking":
        monkeypatch.setattr(archive._Reader, "_unpack_one", full)
    elif at == "the rows":
        monkeypatch.setattr(backup, "_copy", full)
    else:
        replace = type(file).replace

        def spoilt(path, target):
            if path.name == "vault.key" and path.parent != settings.home:
                full()
            return replace(path, target)

        monkeypatch.setattr(type(file), "replace", spoilt)
    with pytest.raises(Failure, match="No space left"):
        backup.restore(settings, file, force=True)
    monkeypatch.undo()

    assert before == await look(settings)
    assert not list(settings.home.glob(".homeport-*"))


async def test_a_backup_or_a_restore_that_makes_no_sense_is_refused(settings, file, tmp_path):
    with pytest.raises(AlreadyExists, match="exists"):
        backup.make(settings, file, force=False)
    with pytest.raises(NotFound, match="nothing in"):
        backup.make(Settings(home=tmp_path / "none"), tmp_path / "x", force=False)
    with pytest.raises(NotFound, match="no directory"):
        backup.make(settings, tmp_path / "none" / "x", force=False)
    with pytest.raises(NotFound, match="no file"):
        backup.restore(settings, tmp_path / "none", force=True)
    with gzip.open(tmp_path / "text", "w") as text:
        text.write(b"hello")
    with pytest.raises(BadRequest, match="not a backup"):
        backup.restore(settings, tmp_path / "text", force=True)


async def test_volumes_are_named_and_find_their_files_again(tmp_path):
    settings, home = Settings(home=tmp_path / "home"), tmp_path / "home"
    await fill(settings)
    database = Database(urls.of("", home))
    volumes = Volumes(database, settings.volumes_dir)
    row = await volumes.create("models")
    await volumes.create(None)
    (volumes.directory(row) / "files/x").write_text("x")
    summary = backup.make(settings, tmp_path / "file", force=False)
    await volumes.delete("models")
    await database.close()
    (settings.volumes_dir / "main/main" / row.id / "files").mkdir(parents=True)
    (settings.volumes_dir / "main/main" / row.id / "files/x").write_text("the copy")

    assert ("models",) == summary.volumes
    assert ("models",) == backup.restore(settings, tmp_path / "file", force=True).volumes
    database = Database(urls.of("", home))
    later = Volumes(database, settings.volumes_dir)
    await later.load()
    with open(later.tree(later.find("models")).open("x"), encoding="utf-8") as file:
        assert "the copy" == file.read()
    await database.close()


async def test_a_home_that_has_only_volumes_is_not_replaced_by_accident(file, tmp_path):
    home = tmp_path / "volumes"
    home.mkdir()
    database = Database(urls.of("", home))
    schema.prepare(database)
    await Volumes(database, home / "volumes").create("models")
    await database.close()

    with pytest.raises(AlreadyExists, match="volumes or other data"):
        backup.restore(Settings(home=home), file, force=False)


async def test_a_backup_that_is_killed_leaves_nothing_for_long(settings, tmp_path):
    file = tmp_path / "big"
    words = [sys.executable, "-c", KILLED, str(settings.home), settings.database, str(file)]
    ended = subprocess.run(words, check=False).returncode
    half = [path.name for path in tmp_path.iterdir() if path.name.startswith(".homeport-")]
    backup.make(settings, file, force=False)

    assert -signal.SIGKILL == ended
    assert 1 == len(half)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".homeport-")]


KILLED = """
import os, pathlib, signal, sys
from homeport.settings import Settings
from homeport.state import archive, backup
def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)
archive.sync = end
archive._Writer.text = end
backup.make(Settings(home=pathlib.Path(sys.argv[1]), database=sys.argv[2]), pathlib.Path(sys.argv[3]), force=False)
"""
