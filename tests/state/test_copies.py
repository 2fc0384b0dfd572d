"""The copy of a database that a migration leaves."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from homeport.contract.errors import StorageError
from homeport.state import copies


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "homeport.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE apps (name)")
        connection.execute("INSERT INTO apps VALUES ('shop')")
    connection.close()
    return path


def test_a_copy_has_what_the_file_has_and_is_for_its_owner_alone(file, tmp_path):
    before = os.umask(0)
    try:
        copies.keep_file(file, "0010")
    finally:
        os.umask(before)
    kept = tmp_path / "homeport.db.schema-0010"
    with sqlite3.connect(kept) as connection:
        assert [("shop",)] == connection.execute("SELECT name FROM apps").fetchall()
    connection.close()

    assert 0o600 == kept.stat().st_mode & 0o777
    assert {"homeport.db", kept.name} == {*os.listdir(tmp_path)}


def test_a_copy_that_cannot_be_kept_stops_the_migration_and_leaves_nothing(file, tmp_path):
    (tmp_path / "homeport.db.schema-0010" / "in the way").mkdir(parents=True)
    with pytest.raises(StorageError, match="a copy of it cannot be kept") as caught:
        copies.keep_file(file, "0010")

    assert "disk" in caught.value.hint
    assert {"homeport.db", "homeport.db.schema-0010"} == {*os.listdir(tmp_path)}


def names_in(file) -> list[str]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM apps")]


def test_the_last_writes_of_a_killed_server_go_aside_with_its_database(file, tmp_path):
    copies.keep_file(file, "0010")
    with contextlib.closing(sqlite3.connect(file)) as later:
        later.execute("PRAGMA journal_mode=WAL")
        with later:
            later.execute("INSERT INTO apps VALUES ('later')")
        killed = tmp_path / "killed"  # as it would be without this connection's end
        killed.mkdir()
        for path in tmp_path.glob("homeport.db*"):
            shutil.copy(path, killed)
    assert (killed / "homeport.db-wal").stat().st_size
    copies.put_back_file(killed / "homeport.db", "0010")

    assert ["shop"] == names_in(killed / "homeport.db")
    (aside,) = [path for path in killed.glob("*later*") if not path.name.endswith(("-wal", "-shm"))]
    assert ["shop", "later"] == names_in(aside)


def test_a_home_always_has_a_database_while_the_copy_is_put_back(file, monkeypatch):
    copies.keep_file(file, "0010")

    def failing(move):
        def fails(path: Path, target: Path) -> Path:
            if target == file:
                raise OSError("the disk is gone")
            return move(path, target)

        return fails

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    with pytest.raises(OSError, match="the disk is gone"):
        copies.put_back_file(file, "0010")

    assert ["shop"] == names_in(file)


def test_without_a_copy_the_migrated_database_stays(file):
    with pytest.raises(StorageError, match="there is no copy") as caught:
        copies.put_back_file(file, "0010")

    assert "homeport restore" in caught.value.hint
    assert ["shop"] == names_in(file)
