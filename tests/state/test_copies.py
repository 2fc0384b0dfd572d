"""The copy of a database that a migration leaves."""

import os
import sqlite3

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
