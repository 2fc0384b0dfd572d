"""A database that is busy, read-only, full or gone while a server uses it: a clear error, and nothing half-done."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from sqlalchemy import event

from homeport.contract.errors import BadRequest, StorageError
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef
from homeport.contract.scope import MAIN
from homeport.control import watching
from homeport.state import database as databases
from homeport.state import schema, urls
from homeport.state.database import Database
from homeport.state.rows import Revision, TokenRow
from homeport.state.secret_rows import SecretRows
from homeport.state.secrets import SecretBox
from homeport.state.store import Store
from homeport.state.tokens import TokenRows
from homeport.state.vault import Vault
from tests.postgres import PASSWORD, running
from tests.waiting import turns, until

SPEC = FunctionSpec(name="f", module="m", qualname="f", secrets=(SecretRef(name="auth"),))
MANIFEST = Manifest(app_name="shop", functions=(SPEC,))


@pytest.fixture
async def store(tmp_path):
    """A store in a file, with an app."""
    async with opened("", tmp_path) as store:
        yield store


class opened:
    """A store with an app and a secret."""

    def __init__(self, setting, home) -> None:
        self.database = Database(urls.of(setting, home))
        self.store = Store(self.database)
        self.store.box = SecretBox(SecretRows(self.database), Vault(home / "vault.key"))

    async def __aenter__(self) -> Store:
        schema.prepare(self.database)
        revision = await self.store.add_revision("rv-1", "shop", MANIFEST, "f", "")
        await self.store.serve_revision(revision, {"me--shop-f": 4664})
        await self.store.box.load()
        await self.store.box.create("auth", {"TOKEN": "x"}, force=False)
        return self.store

    async def __aexit__(self, *_error) -> None:
        await self.database.close()


def changes(store: Store) -> dict:
    """Return each method that changes something."""
    second = Revision(id="rv-2", app="shop", version=2, manifest=MANIFEST)
    token = TokenRow(id="wk-1", name="", secret_sha256="a" * 64, created_at=1.0)
    return {
        "add_revision": lambda: store.add_revision("rv-9", "shop", MANIFEST, "f", ""),
        "serve_revision": lambda: store.serve_revision(second, {"me--shop-g": 1}),
        "stop_app": lambda: store.stop_app("shop"),
        "remove_revision": lambda: store.remove_revision("rv-1"),
        "put_secret": lambda: SecretRows(store.database).put("auth", b"y", [], inline=False),
        "delete_secret": lambda: SecretRows(store.database).delete("auth"),
        "add_token": lambda: TokenRows(store.database).add(MAIN, token),
    }


async def everything(store: Store) -> tuple:
    return (
        await store.apps(),
        await store.revisions("shop"),
        await store.local_ports(),
        await SecretRows(store.database).sealed(),
        await TokenRows(store.database).every(),
    )


async def refused(store: Store, match: str) -> list[StorageError]:
    """Check that each change is refused, and that undoing a change that has not happened is no error."""
    before_undo = await store.served("shop")
    failures = []
    for name, change in changes(store).items():
        with pytest.raises(StorageError, match=match) as failure:
            await change()
        failures.append((name, failure.value))
    await store.put_back("shop", before_undo)
    await store.remove_revision("rv-unknown")
    await store.forget_unserved("shop")
    return [failure for _, failure in failures]


def test_a_change_is_on_the_disk_when_it_is_done(store):
    """A deploy that a user has seen survives a power cut (SQLite, PRAGMA synchronous: 2 is FULL)."""
    with store.database.reading() as connection:
        ways = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode")
        ]

    assert [2, "wal"] == ways


async def test_a_disk_that_is_full(store):
    before = await everything(store)

    @event.listens_for(store.database._engine, "checkout")
    def checkout(raw, _record, _proxy):
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count = {pages}")

    big = Manifest(app_name="shop", functions=(SPEC,), script="x" * 100_000)
    with pytest.raises(StorageError, match="database or disk is full") as failure:
        await store.add_revision("rv-9", "shop", big, "f", "")

    assert "make room on the disk" in failure.value.hint
    assert before == await everything(store)


async def test_a_file_that_may_only_be_read(tmp_path):
    """Root may write any file, so the test opens the file only for reading."""
    async with opened("", tmp_path) as store:

        @event.listens_for(store.database._engine, "checkout")
        def checkout(raw, _record, _proxy):
            raw.execute("PRAGMA query_only = 1")

        before = await everything(store)
        failures = await refused(store, "readonly database")

        assert {"let the server's user write to the file and to its folder"} == {
            failure.hint for failure in failures
        }
        assert before == await everything(store)


async def test_a_file_that_another_program_writes(store, tmp_path, monkeypatch):
    other = sqlite3.connect(tmp_path / "homeport.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.database._engine.dispose()
    monkeypatch.setattr(databases, "BUSY_S", 0.05)
    before = await everything(store)
    failures = await refused(store, "database is locked")
    during = await everything(store)
    other.execute("ROLLBACK")
    other.close()
    await store.stop_app("shop")

    assert "another program writes to it" in failures[0].hint
    assert before == during
    assert (await store.app("shop")).stopped_at is not None


async def test_a_file_that_is_gone_or_another_one(store, tmp_path):
    path, away = tmp_path / "homeport.db", tmp_path / "away"
    before = await everything(store)
    path.rename(away)
    for change in changes(store).values():
        with pytest.raises(StorageError, match="is gone, or another file is in its place"):
            await change()
    made_anew = path.exists()
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="another file") as failure:
        await store.apps()
    path.unlink()
    away.rename(path)

    assert not made_anew
    assert "homeport restore" in failure.value.hint
    assert before == await everything(store)


async def test_secrets_are_there_without_the_database(store, tmp_path):
    (tmp_path / "homeport.db").rename(tmp_path / "away")

    assert {"TOKEN": "x"} == store.box.environ(SPEC)
    with pytest.raises(StorageError):
        await store.box.create("auth", {"TOKEN": "y"}, force=True)
    assert {"TOKEN": "x"} == store.box.environ(SPEC)


async def test_the_loop_goes_on_while_the_database_does_not(store, tmp_path):
    """Another program holds the file: the event loop never waits for it."""
    other = sqlite3.connect(tmp_path / "homeport.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    stopping = asyncio.create_task(store.stop_app("shop"))
    await until(lambda: store.database._writer._threads, "the change to begin")
    read = await store.app("shop")  # WAL: it waits for no writer
    waiting = not stopping.done()
    other.execute("ROLLBACK")
    other.close()
    await stopping

    assert read.stopped_at is None
    assert waiting


async def test_a_change_whose_caller_is_cancelled_comes_before_its_undo(store):
    before = await store.served("shop")
    held, go = threading.Event(), threading.Event()

    def hold(_connection):
        held.set()
        go.wait(30)

    holding = asyncio.create_task(store.database.write(hold))
    await asyncio.to_thread(held.wait, 30)
    stopping = asyncio.create_task(store.stop_app("shop"))
    await turns(1)
    stopping.cancel()
    undone = asyncio.create_task(store.put_back("shop", before))
    await turns(1)
    go.set()
    await asyncio.gather(holding, undone)

    assert before == await store.served("shop")


@pytest.fixture(scope="module")
def own_postgres():
    """A PostgreSQL that tests may stop."""
    with running() as server:
        yield server


async def test_a_postgresql_that_ends_and_comes_back(own_postgres, tmp_path):
    async with opened(own_postgres.url_of(tmp_path), tmp_path) as store:
        before = await everything(store)
        own_postgres.stop(signal.SIGQUIT)
        failures = []
        for change in [*changes(store).values(), store.apps]:
            with pytest.raises(StorageError, match="cannot be") as failure:
                await change()
            failures.append(f"{failure.value.message} {failure.value.hint}")
        secrets = store.box.environ(SPEC)
        own_postgres.start()

        assert before == await everything(store)
        assert {"TOKEN": "x"} == secrets
        assert all("(PostgreSQL) cannot be" in text for text in failures)
        assert all(PASSWORD not in text and "s3cret" not in text for text in failures)


async def test_a_postgresql_that_may_only_be_read_and_one_where_another_writes(
    own_postgres, tmp_path, monkeypatch
):
    monkeypatch.setattr(databases, "BUSY_S", 0.2)
    async with opened(own_postgres.url_of(tmp_path), tmp_path) as store:
        name = store.database.url.database
        before = await everything(store)
        with own_postgres.connect(name) as other:
            with other.transaction():
                other.execute("select pg_advisory_xact_lock(%s)", [databases.WRITERS])
                await refused(store, "lock timeout")
            other.execute(f"alter database {name} set default_transaction_read_only = on")
        store.database._engine.dispose()
        await refused(store, "read-only transaction")

        assert before == await everything(store)


async def test_a_second_server_is_refused_a_postgresql_that_has_one(own_postgres, tmp_path):
    first = Database(urls.of(own_postgres.url_of(tmp_path), tmp_path))
    second = Database(urls.of(own_postgres.url_of(tmp_path), tmp_path))
    first.claim()
    with pytest.raises(StorageError, match="another server uses") as failure:
        second.claim()
    held = []

    @event.listens_for(first._engine, "invalidate")
    def closing(*_args):
        """Look for the lock before the session is closed: PostgreSQL notices its end a moment later."""
        with own_postgres.connect(first.url.database) as other:
            ask = "select count(*) from pg_locks where objid = %s"
            held.append(other.execute(ask, [databases.SERVERS]).fetchone()[0])

    first.dispose()
    second.claim()
    second.dispose()

    assert PASSWORD not in failure.value.message
    assert [0] == held


async def test_a_server_takes_its_lock_again_when_postgresql_has_restarted(own_postgres, tmp_path):
    async with opened(own_postgres.url_of(tmp_path), tmp_path) as store:
        store.database.claim()
        own_postgres.stop()
        with pytest.raises(StorageError):
            await store.database.write(lambda _: None)
        own_postgres.start()
        await store.database.write(lambda _: None)
        second = Database(urls.of(own_postgres.url_of(tmp_path), tmp_path))
        with pytest.raises(StorageError, match="another server uses"):
            second.claim()
        second.dispose()

        assert not store.database.taken


async def test_a_server_whose_database_was_taken_writes_nothing_more_and_ends(
    own_postgres, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(watching, "CLAIM_S", 0.01)
    second = Database(urls.of(own_postgres.url_of(tmp_path), tmp_path))
    ended = asyncio.Event()
    async with contextlib.AsyncExitStack() as ending:
        store = await ending.enter_async_context(opened(own_postgres.url_of(tmp_path), tmp_path))
        before = await everything(store)
        store.database.claim()
        with own_postgres.connect(store.database.url.database) as other:
            # As a restart does: it ends the session that has the lock.
            ask = "select pg_terminate_backend(pid, 60000) from pg_locks where objid = %s"
            assert [(True,)] == other.execute(ask, [databases.SERVERS]).fetchall()
        second.claim()
        with pytest.raises(StorageError, match="another server uses"):
            await store.database.write(lambda _: pytest.fail("it writes"))
        watching.watch_database(store.database, ended.set, ending)
        await asyncio.wait_for(ended.wait(), 60)

        assert before == await everything(store)
        assert "this server ends: another server uses" in caplog.text
        assert PASSWORD not in caplog.text
    second.dispose()


async def test_no_message_has_the_password(own_postgres, tmp_path, caplog):
    wrong = "not-the-p@ssword/at:all"
    database = Database(urls.of(own_postgres.url("some", wrong), tmp_path))
    with pytest.raises(StorageError, match="password authentication failed") as failure:
        schema.prepare(database)
    texts = [failure.value.message, failure.value.hint, repr(failure.value.__cause__), caplog.text]

    assert all(part not in " ".join(texts) for part in ("p@ssword", "p%40ssword"))
    assert "`some` at" in failure.value.message


@pytest.mark.parametrize(
    "setting",
    [
        "postgresql://me:hunter2@host:port/name",
        "postgresql://me:hun@ter2@host/name",
        "mysql://me:hunter2@host/name",
        "sqlite://",
        "hunter2",
        "postgresql+asyncpg://me:hunter2@host/name",
    ],
)
def test_a_url_that_is_none_is_refused_without_being_quoted(setting, tmp_path):
    with pytest.raises(BadRequest) as failure:
        urls.of(setting, tmp_path)

    assert "ter2" not in failure.value.message + failure.value.hint


def test_the_shown_text_of_a_database_has_no_password(tmp_path):
    def shown(setting):
        return urls.shown(urls.of(setting, tmp_path))

    assert f"{tmp_path}/homeport.db" == shown("")
    assert "`db` at h:5433 (PostgreSQL)" == shown("postgresql://me:p@h:5433/db?password=q")
    assert "`db` at /run/pg (PostgreSQL)" == shown("postgres:///db?host=/run/pg")


def test_without_the_driver_the_error_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['psycopg'] = None; from pathlib import Path;"
        "from homeport.state import urls; from homeport.state.database import Database\n"
        f"try: Database(urls.of('postgresql://a:hunter2@h/d', Path({str(tmp_path)!r})))\n"
        "except Exception as error: print(error.message, error.hint)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)

    assert "`pip install 'homeport[postgres]'`" in done.stdout
    assert "hunter2" not in done.stdout


async def test_after_its_end_the_store_says_so(tmp_path):
    async with opened("", tmp_path) as store:
        pass
    with pytest.raises(StorageError, match="the server is ending"):
        await store.apps()
