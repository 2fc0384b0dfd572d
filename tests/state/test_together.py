"""Small writes that wait at once share a transaction, and none of them pays for another one's error."""

import asyncio
import threading

import pytest
from sqlalchemy import event, func, insert, select

from homeport.contract.errors import BadRequest, NotFound, StorageError
from homeport.state import schema, tables, urls
from homeport.state import together as module
from homeport.state.database import Database
from tests.waiting import turns

TOKENS = tables.proxy_tokens


def keep(name: str):
    """A work that writes a row, and returns its name."""

    def work(connection):
        connection.execute(token(name))
        return name

    return work


def token(name: str):
    return insert(TOKENS).values(
        id=name, workspace="main", environment="main", name=name, secret_sha256="", created_at=0.0
    )


async def count(database: Database) -> int:
    query = select(func.count()).select_from(TOKENS)
    return await database.read(lambda c: c.scalar(query))


def held_back(database: Database):
    """Keep the writer busy until the event is set, so that what follows waits together."""
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work():
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()

    return asyncio.create_task(database.in_turn(work)), go


async def test_works_that_wait_at_once_are_one_transaction(database, monkeypatch):
    begun = []

    def noted():
        begun.append(1)
        return database.writing()

    monkeypatch.setattr(database._writes, "_transaction", noted)
    first, go = held_back(database)
    await asyncio.sleep(0)
    works = [asyncio.create_task(database.together(keep(f"t{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    go.set()

    assert [f"t{n}" for n in range(50)] == await asyncio.gather(*works)
    await first
    assert [1] == begun
    assert 50 == await count(database)


async def test_a_work_that_raises_changes_nothing_and_harms_nobody(database):
    def halfway(connection):
        connection.execute(token("half"))
        raise NotFound("no such thing")

    def bug(connection):
        connection.execute(token("bug"))
        raise ZeroDivisionError

    def unstorable(connection):
        connection.execute(token("sur\ud800rogate"))

    first, go = held_back(database)
    await asyncio.sleep(0)
    works = [
        asyncio.create_task(database.together(work))
        for work in (keep("a"), halfway, bug, unstorable,
                     keep("b"))
    ]  # fmt: skip
    await asyncio.sleep(0)
    go.set()
    a, half, fault, text, b = await asyncio.gather(*works, return_exceptions=True)
    await first

    assert ("a", "b") == (a, b)
    assert [NotFound, ZeroDivisionError, BadRequest] == [type(half), type(fault), type(text)]
    assert 2 == await count(database)


async def test_a_number_of_more_than_64_bits_is_the_callers_fault(database):
    queries = select(tables.deploys.c.app).where(tables.deploys.c.id > 2**63)

    def ask(connection):
        return connection.scalar(queries)

    first, go = held_back(database)
    await asyncio.sleep(0)
    works = [database.together(keep("a")), database.together(ask), database.write(ask)]
    ends = asyncio.gather(*works, database.read(ask), return_exceptions=True)
    await asyncio.sleep(0)
    go.set()
    kept, *refused = await ends
    await first

    assert "a" == kept
    if not database.postgres:  # which compares all numbers
        assert [BadRequest] * 3 == [type(error) for error in refused]
    assert 1 == await count(database)


async def test_a_caller_that_is_cancelled_does_not_stop_the_others(database):
    first, go = held_back(database)
    await asyncio.sleep(0)
    gone = asyncio.create_task(database.together(keep("gone")))
    stays = asyncio.create_task(database.together(keep("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    go.set()

    assert "stays" == await stays
    await first


async def test_a_database_that_fails_fails_all_of_them(database, monkeypatch):
    def broken():
        raise StorageError("the disk is full")

    monkeypatch.setattr(database._writes, "_transaction", broken)
    works = [database.together(keep("x")) for _ in range(3)]
    ends = await asyncio.gather(*works, return_exceptions=True)

    assert [StorageError] * 3 == [type(end) for end in ends]


async def test_after_the_end_it_says_so(database_setting, tmp_path):
    database = Database(urls.of(database_setting, tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    await database.close()

    with pytest.raises(StorageError, match="ending"):
        await database.together(keep("late"))


async def test_a_write_that_joins_while_the_writer_takes_the_others_is_not_lost(
    database, monkeypatch
):
    """The writer's thread may run at any point of the caller's code, also before the caller is in the list."""

    class Slow(module._Work):
        def __init__(self, work, done):
            super().__init__(work, done)
            release.set()
            database._writer.submit(int).result(60)  # whatever waited is taken by now

    release = threading.Event()
    database._writer.submit(release.wait, 60)
    first = asyncio.ensure_future(database.together(keep("a")))
    await turns(2)
    monkeypatch.setattr(module, "_Work", Slow)
    second = asyncio.ensure_future(database.together(keep("b")))

    assert ["a", "b"] == await asyncio.wait_for(asyncio.gather(first, second), 60)


async def test_a_group_without_an_error_has_no_savepoint(database, monkeypatch):
    savepoints = []

    @event.listens_for(database._engine, "savepoint")
    def noted(*_args):
        savepoints.append(1)

    first, go = held_back(database)
    await asyncio.sleep(0)
    works = [asyncio.create_task(database.together(keep(f"t{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, *works)

    assert [] == savepoints
    assert 5 == await count(database)


async def test_a_work_whose_row_is_there_already_fails_alone(database):
    await database.together(keep("a"))
    first, go = held_back(database)
    await asyncio.sleep(0)
    works = [asyncio.create_task(database.together(keep(name))) for name in ("b", "a", "c")]
    await asyncio.sleep(0)
    go.set()
    b, again, c = await asyncio.gather(*works, return_exceptions=True)
    await first

    assert ("b", "c") == (b, c)
    assert StorageError is type(again)
    assert 3 == await count(database)


async def test_writes_come_in_the_order_of_their_calls(database):
    """A `write` does not overtake a work that was called before it and waits for others."""
    order = []
    calls = [
        database.together(lambda _c: order.append(1)),
        database.write(lambda _c: order.append(2)),
        database.in_turn(lambda: order.append(3)),
    ]
    await asyncio.gather(*map(asyncio.ensure_future, calls))

    assert [1, 2, 3] == order


async def test_reads_that_wait_at_once_see_what_was_written_before_them(database):
    query = select(TOKENS.c.name).order_by(TOKENS.c.name)
    await database.together(keep("a"))
    names = [database.read_together(lambda c: list(c.scalars(query))) for _ in range(10)]

    def wrong(_connection):
        raise NotFound("no such thing")

    *found, refused = await asyncio.gather(
        *names, database.read_together(wrong), return_exceptions=True
    )

    assert [["a"]] * 10 == found
    assert NotFound is type(refused)


async def test_works_that_were_called_before_the_end_are_written(database_setting, tmp_path):
    database = Database(urls.of(database_setting, tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    last = asyncio.ensure_future(database.together(keep("last")))
    await turns(1)
    await database.close()

    assert "last" == await last
    later = Database(urls.of(database_setting, tmp_path))
    assert 1 == await count(later)
    await later.close()
