"""The schema: a new database, an older one, a newer one, and a migration that fails."""

import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from homeport.contract import codec
from homeport.contract.errors import StorageError
from homeport.contract.manifest import FunctionSpec, Manifest
from homeport.state import migrations, schema, tables, urls
from homeport.state.database import Database
from homeport.state.secret_rows import SecretRows
from homeport.state.store import Store
from homeport.state.tokens import TokenRows

MANIFEST = Manifest(app_name="shop", functions=(FunctionSpec(name="f", module="m", qualname="f"),))
#: The tables of a home from before there were migrations, with one app.
OLD = """
CREATE TABLE apps (name VARCHAR(64) NOT NULL, app_id VARCHAR(32) NOT NULL, version INTEGER NOT NULL,
    created_at FLOAT NOT NULL, stopped_at FLOAT, PRIMARY KEY (name));
CREATE TABLE revisions (id VARCHAR(32) NOT NULL, app VARCHAR(64) NOT NULL, version INTEGER NOT NULL,
    manifest TEXT NOT NULL, fingerprint VARCHAR(64) NOT NULL, tag VARCHAR(50) NOT NULL,
    created_at FLOAT NOT NULL, PRIMARY KEY (id), UNIQUE (app, version));
CREATE INDEX ix_revisions_app ON revisions (app);
CREATE TABLE endpoints (id VARCHAR(63) NOT NULL, app VARCHAR(64) NOT NULL, local_port INTEGER NOT NULL,
    PRIMARY KEY (id));
CREATE INDEX ix_endpoints_app ON endpoints (app);
CREATE TABLE secrets (name VARCHAR(128) NOT NULL, sealed BLOB NOT NULL, keys TEXT NOT NULL,
    inline INTEGER NOT NULL, created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL, PRIMARY KEY (name));
CREATE TABLE proxy_tokens (id VARCHAR(40) NOT NULL, name VARCHAR(64) NOT NULL,
    secret_sha256 VARCHAR(64) NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (id));
INSERT INTO apps VALUES ('shop', 'ap-1', 1, 10.0, NULL);
INSERT INTO endpoints VALUES ('me--shop-f', 'shop', 4664);
INSERT INTO secrets VALUES ('auth', x'0102', '["TOKEN"]', 0, 10.0, 11.0);
INSERT INTO proxy_tokens VALUES ('wk-1', 'ci', 'ab', 12.0);
"""


@pytest.fixture
def database(empty_database):
    return empty_database


def old_home(home, user_version: int = 1) -> Database:
    """Make a database as an earlier homeport has left it."""
    connection = sqlite3.connect(home / "homeport.db")
    connection.executescript(OLD)
    row = ("rv-1", "shop", 1, codec.dumps(MANIFEST), "f", "", 10.0)
    connection.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute(f"PRAGMA user_version = {user_version}")
    connection.commit()
    connection.close()
    return Database(urls.of("", home))


def dump(path) -> list[str]:
    with sqlite3.connect(path) as connection:
        lines = [*connection.iterdump(), *map(str, connection.execute("PRAGMA user_version"))]
    connection.close()
    return lines


def differences(connection) -> list:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return compare_metadata(context, tables.metadata)


def test_the_migrations_come_to_the_tables_of_the_code(database):
    with database.writing() as connection:
        migrations.upgrade(connection)

        assert [] == differences(connection)


def test_a_new_database_has_them_too_and_the_newest_number(database):
    schema.prepare(database)
    schema.prepare(database)
    with database.reading() as connection:
        number = connection.scalar(text("SELECT version_num FROM alembic_version"))

        assert [] == differences(connection)
    assert tables.SCHEMA == number
    assert tables.SCHEMA == ScriptDirectory.from_config(migrations.config()).get_current_head()


@pytest.mark.parametrize("user_version", [0, 1])
async def test_a_home_of_before_there_were_numbers_is_brought_up_with_all_it_has(
    tmp_path, user_version
):
    database = old_home(tmp_path, user_version)
    before = dump(tmp_path / "homeport.db")
    schema.prepare(database)
    store = Store(database)

    assert [("shop", 1)] == [(row.name, row.version) for row in await store.apps()]
    assert MANIFEST == (await store.revision("shop", 1)).manifest
    assert {"me--shop-f": 4664} == await store.local_ports()
    assert {"auth": b"\x01\x02"} == await SecretRows(database).sealed()
    assert ["wk-1"] == [row.id for _, row in await TokenRows(database).every()]
    with database.reading() as connection:
        assert [] == differences(connection)
    # The homeport that wrote it can read the copy.
    assert before == dump(tmp_path / "homeport.db.schema-0001")
    assert 0o600 == (tmp_path / "homeport.db.schema-0001").stat().st_mode & 0o777
    await database.close()


def test_a_homeport_of_before_there_were_numbers_refuses_the_file(tmp_path):
    database = Database(urls.of("", tmp_path))
    schema.prepare(database)
    database.dispose()

    assert f"({int(tables.SCHEMA)},)" in dump(tmp_path / "homeport.db")  # it refused more than 1


def test_a_database_has_one_number_however_often_it_is_migrated(database):
    with database.writing() as connection:
        for number in ("0001", "0002"):
            schema.stamp(connection, number)

        assert ["0002"] == [*connection.scalars(text("SELECT version_num FROM alembic_version"))]


def test_a_database_of_a_later_homeport_is_left_alone(database):
    schema.prepare(database)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))

    with pytest.raises(StorageError, match=r"by a later homeport \(schema 0099\)") as refusal:
        schema.prepare(database)
    assert "install that version again" in refusal.value.hint
    with database.reading() as connection:
        assert "0099" == connection.scalar(text("SELECT version_num FROM alembic_version"))


def test_a_file_with_a_later_user_version_is_refused(tmp_path):
    database = old_home(tmp_path, int(tables.SCHEMA) + 1)
    with pytest.raises(
        StorageError, match=rf"by a later homeport \(schema {int(tables.SCHEMA) + 1:04}\)"
    ):
        schema.prepare(database)
    database.dispose()


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path):
    database = old_home(tmp_path)
    with sqlite3.connect(tmp_path / "homeport.db") as connection:
        # The last table that the migration makes exists, so all steps before it have run.
        connection.execute("CREATE TABLE cold_starts (spoil INTEGER)")
    connection.close()
    before = dump(tmp_path / "homeport.db")

    with pytest.raises(StorageError, match=r"cannot be migrated.*as it was before") as refusal:
        schema.prepare(database)
    database.dispose()
    assert "install the homeport that wrote it again" in refusal.value.hint
    assert before == dump(tmp_path / "homeport.db")


def test_in_postgresql_too(postgres, tmp_path):
    database = Database(urls.of(postgres.url_of(tmp_path), tmp_path))
    with database.writing() as connection:
        migrations.upgrade(connection, "0001")
        connection.execute(text("INSERT INTO proxy_tokens VALUES ('wk-1', 'ci', 'ab', 12.0)"))
        connection.execute(text("CREATE TABLE cold_starts (spoil INTEGER)"))

    with pytest.raises(StorageError, match="as it was before"):
        schema.prepare(database)
    with database.writing() as connection:
        assert 1 == connection.scalar(text("SELECT count(*) FROM proxy_tokens WHERE name = 'ci'"))
        connection.execute(text("DROP TABLE cold_starts"))
    schema.prepare(database)
    with database.reading() as connection:
        rows = connection.execute(text("SELECT id, workspace, environment FROM proxy_tokens"))
        assert [("wk-1", "main", "main")] == [tuple(row) for row in rows]
    database.dispose()


def test_a_start_without_a_migration_does_not_import_alembic(tmp_path):
    code = (
        "import sys; from pathlib import Path; from homeport.state import schema, urls;"
        "from homeport.state.database import Database;"
        f"database = Database(urls.of('', Path({str(tmp_path)!r})));"
        "schema.prepare(database); schema.prepare(database); database.dispose();"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
