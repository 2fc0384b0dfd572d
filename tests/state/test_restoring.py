"""A restore that fails or is ended changes nothing; what fails after its rows are in force is named."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.contract.errors import AlreadyExists, Failure, StorageError
from homeport.settings import Settings
from homeport.state import backup, restoring, schema, tables, urls
from homeport.state.database import Database
from homeport.state.volumes import Volumes
from tests.state.test_backup import fill, look


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "it")


@pytest.fixture
async def settings(tmp_path):
    """A home with an app, a volume and a certificate."""
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    database = Database(urls.of("", settings.home))
    volumes = Volumes(database, settings.volumes_dir)
    row = await volumes.create("models")
    await database.close()
    files = volumes.directory(row) / "files"
    (files / "x").write_text("of the backup")
    (settings.home / "local-ca").mkdir()
    (settings.home / "local-ca/key").write_text("of the backup")
    return settings


@pytest.fixture
async def file(settings, tmp_path):
    """A backup, after which everything in the home has changed."""
    path = tmp_path / "a.backup"
    backup.make(settings, path, force=False, volumes=None)
    await fill(settings, "blog")
    for text in texts(settings):
        text.write_text("of the home")
    return path


def texts(settings: Settings) -> list[Path]:
    """Return the file of the volume and the certificate."""
    copies = settings.volumes_dir.glob("main/main/*/files/x")
    [volume] = [path for path in copies if ".before-restore" not in str(path)]
    return [volume, settings.home / "local-ca/key"]


def read(settings: Settings) -> set[str]:
    return {path.read_text() for path in texts(settings)}


async def test_a_restore_that_fails_never_loses_the_present_key(settings, file, monkeypatch):
    backup.restore(settings, file, force=True)  # leaves the key before it beside the present one
    (settings.home / "vault.key.before-restore").write_bytes(b"an earlier key")
    present = (settings.home / "vault.key").read_bytes()
    before = await look(settings)
    monkeypatch.setattr(backup, "_copy", full)
    with pytest.raises(Failure, match="No space left"):
        backup.restore(settings, file, force=True)

    assert present == (settings.home / "vault.key").read_bytes()
    assert b"an earlier key" == (settings.home / "vault.key.before-restore").read_bytes()
    assert before == await look(settings)


async def test_a_restore_that_fails_leaves_certificates_as_they_are(settings, file, monkeypatch):
    before = await look(settings)
    replace = Path.replace

    def spoilt(path, target):
        if Path(target) == settings.home / "vault.key" and path.parent != settings.home:
            full()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", spoilt)
    with pytest.raises(Failure, match="No space left"):
        backup.restore(settings, file, force=True)
    monkeypatch.undo()

    assert {"of the home"} == read(settings)
    assert before == await look(settings)


async def test_a_failure_after_the_rows_are_in_force_is_named_and_undoes_nothing(
    settings, file, monkeypatch
):
    replace = Path.replace

    def spoilt(path, target):
        if Path(target) == settings.home / "local-ca/key":
            full()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", spoilt)
    with pytest.raises(
        StorageError, match="are those of the backup, but 1 of its files"
    ) as failure:
        backup.restore(settings, file, force=True)
    monkeypatch.undo()
    state = await look(settings)

    assert "local-ca/key: No space left" in failure.value.message
    assert [["of the backup"], ["of the home"]] == [[path.read_text()] for path in texts(settings)]
    assert (["shop"], {"TOKEN": "of shop"}) == ([row[0] for row in state["apps"]], state["secret"])


async def test_each_directory_that_gets_a_file_is_written_through_to_the_disk(
    settings, file, tmp_path, monkeypatch
):
    synced = []
    monkeypatch.setattr(restoring, "sync", synced.append)
    other = Settings(home=tmp_path / "other")
    backup.restore(other, file, force=False)
    (blob,) = (other.home / "blobs").glob("*/" + "?" * 64)
    (volume,) = other.volumes_dir.glob("main/main/*")

    assert {blob.parent, volume.parent, other.home / "local-ca", other.home} == set(synced)


ENDED = """
import os, signal, sys
from homeport.state import __main__, archive, backup

number = int(sys.argv[2])
room = backup if sys.argv[1] == "_copy" else archive._Reader
work = getattr(room, sys.argv[1])

def ended(*words):
    os.kill(os.getpid(), number)
    return work(*words)

setattr(room, sys.argv[1], ended)
del sys.argv[1:]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("at", "whose"), [("_unpack_one", "home"), ("_copy", "backup")])
async def test_a_signal_ends_a_restore_before_or_after_it(at, whose, number, settings, file):
    sent = {**dataclasses.asdict(settings), "home": str(settings.home)}
    order = {"do": "restore", "settings": sent, "file": str(file), "force": True}
    done = subprocess.run(
        [sys.executable, "-c", ENDED, at, str(number.value)],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, "") == (done.returncode, done.stderr)
    assert {f"of the {whose}"} == read(settings)
    apps = {row[0] for row in (await look(settings))["apps"]}
    assert ({"shop"} if whose == "backup" else {"shop", "blog"}) == apps
    assert not list(settings.home.glob(".homeport-*"))


ROWS = [
    (tables.api_tokens, {"id": "ak-1", "workspace": "main", "name": "n", "user": "", "scopes": ""}),
    (tables.objects, {"id": "di-1", "kind": "dict", "name": "cache"}),
    (tables.domains, {"domain": "shop.example.com", "app": "shop", "tag": "f"}),
]


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[table.name for table, _ in ROWS])
async def test_a_home_with_anything_in_it_is_not_replaced_by_accident(table, row, file, tmp_path):
    home = tmp_path / "other"
    home.mkdir()
    database = Database(urls.of("", home))
    schema.prepare(database)
    rest = {c.name: 0 if c.type.python_type in (int, float) else "" for c in table.columns}
    with database.writing() as connection:
        connection.execute(table.insert().values({**rest, **row}))
    database.dispose()

    with pytest.raises(AlreadyExists, match="volumes or other data"):
        backup.restore(Settings(home=home), file, force=False)
