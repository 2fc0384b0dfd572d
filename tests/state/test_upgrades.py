"""A new version tries its migration on a copy, and an old one gets its database back."""

import sqlite3

import pytest
from sqlalchemy import insert, inspect, select

from homeport.contract.errors import StorageError
from homeport.contract.starting import LOCK
from homeport.control import standby
from homeport.settings import Settings
from homeport.state import copies, migrations, schema, tables, upgrades, urls
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
    with pytest.raises(StorageError, match=r"by a later homeport \(schema") as refusal:
        upgrades.rehearse(settings)

    assert "homeport restore" in refusal.value.hint


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
    with pytest.raises(StorageError, match="there is no copy"):
        upgrades.go_back(settings)

    assert (settings.home / "homeport.db").exists()


def test_tables_of_a_postgresql_come_back_with_their_rows_and_can_be_migrated_again(
    postgres, tmp_path, monkeypatch
):
    settings = Settings(home=tmp_path, database=postgres.url_of(tmp_path))
    database = Database(urls.of(settings.database, tmp_path))
    schema.prepare(database)
    row = {"name": "ada", "slug": "ada", "created_at": 1.5}
    with database.writing() as connection:
        connection.execute(insert(tables.workspaces), [row])
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            later(patch)
            schema.prepare(database)
            with database.writing() as connection:
                connection.exec_driver_sql("ALTER TABLE workspaces DROP COLUMN slug")

        assert {"restored": True} == upgrades.go_back(settings)
        with database.reading() as connection:
            read = list(connection.execute(select(tables.workspaces)).mappings())
            assert [row] == [dict(workspace) for workspace in read]
            assert tables.SCHEMA == schema.number(database, connection)
            assert "more" not in inspect(connection).get_table_names()
        monkeypatch.setattr(copies, "_now", lambda: "2")  # another second
    assert {"restored": False} == upgrades.go_back(settings)
    database.dispose()


def test_the_way_back_waits_until_no_server_has_the_home(settings):
    with pytest.MonkeyPatch.context() as patch:
        later(patch)
        database = Database(urls.of("", settings.home))
        schema.prepare(database)
        database.dispose()
    with standby.led(settings.home / LOCK):
        with pytest.raises(StorageError, match="a server still uses"):
            upgrades.go_back(settings, patience_s=0.0)
        assert "9999" == schema_of(settings)

    assert {"restored": True} == upgrades.go_back(settings, patience_s=0.0)
