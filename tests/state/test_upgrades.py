"""A new version tries its migration on a copy, and an old one gets its database back."""

import sqlite3

import pytest

from homeport.contract.errors import StorageError
from homeport.settings import Settings
from homeport.state import migrations, schema, tables, upgrades, urls
from homeport.state.database import Database


@pytest.fixture
def settings(tmp_path):
    settings = Settings(home=tmp_path)
    database = Database(urls.of("", tmp_path))
    schema.prepare(database)
    database.dispose()
    return settings


def schema_of(settings: Settings) -> str:
    with sqlite3.connect(settings.home / "homeport.db") as connection:
        [(number,)] = connection.execute("SELECT version_num FROM alembic_version")
    connection.close()
    return number


def later(monkeypatch, *, works: bool = True) -> None:
    """Be a later homeport, with a migration of its own."""

    def upgrade(connection) -> None:
        if not works:
            raise RuntimeError("it fails")
        connection.exec_driver_sql("CREATE TABLE more (id INTEGER)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    monkeypatch.setattr(tables, "SCHEMA", "9999")
    monkeypatch.setattr(migrations, "upgrade", upgrade)


def test_a_rehearsal_finds_a_migration_that_fails_and_changes_nothing(settings, monkeypatch):
    before = schema_of(settings)
    later(monkeypatch, works=False)
    with pytest.raises(StorageError, match="cannot be migrated"):
        upgrades.rehearse(settings)

    assert before == schema_of(settings)
    assert [] == list(settings.home.glob(".homeport-*"))


def test_a_rehearsal_that_works_changes_nothing_either(settings, monkeypatch):
    before = schema_of(settings)
    later(monkeypatch)

    assert {"schema": "9999"} == upgrades.rehearse(settings)
    assert before == schema_of(settings)


def test_an_older_version_is_refused_with_a_reason(settings, monkeypatch):
    monkeypatch.setattr(tables, "SCHEMA", "0001")
    with pytest.raises(StorageError, match=r"by a later homeport \(schema") as caught:
        upgrades.rehearse(settings)

    assert "homeport restore" in caught.value.hint


def test_the_version_before_gets_the_database_that_it_can_read(settings):
    before = schema_of(settings)
    with pytest.MonkeyPatch.context() as patch:
        later(patch)
        database = Database(urls.of("", settings.home))
        schema.prepare(database)
        database.dispose()
    migrated = schema_of(settings)

    assert {"restored": True} == upgrades.go_back(settings)
    assert ("9999", before) == (migrated, schema_of(settings))
    assert [path.name for path in settings.home.glob("homeport.db.later-*")]
    assert {"restored": False} == upgrades.go_back(settings)


def test_without_a_copy_nothing_is_moved(settings, monkeypatch):
    monkeypatch.setattr(tables, "SCHEMA", "0001")
    with pytest.raises(StorageError, match="by a later homeport"):
        upgrades.go_back(settings)

    assert (settings.home / "homeport.db").exists()
