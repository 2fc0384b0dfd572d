"""The last cold starts of each app: in memory at once, and in the database for a later server."""

import pytest
from sqlalchemy import func, select

from homeport.contract import codec
from homeport.contract.errors import StorageError
from homeport.contract.scope import MAIN, Scope
from homeport.state import coldstarts, tables
from homeport.state.coldstarts import KEPT, ColdStart, ColdStarts
from tests.waiting import until


@pytest.fixture
async def keep(database):
    """Cold starts of one server after another, in one database."""
    opened = []

    async def keep() -> ColdStarts:
        for before in opened:
            await before.close()
        opened[:] = [ColdStarts(database)]
        return opened[0]

    yield keep
    for starts in opened:
        await starts.close()


def start(number: int, app: str = "app", function: str = "f", **changes) -> ColdStart:
    fields = {"at": float(number), "app": app, "function": function, "container": f"ta-{number}"}
    parts = {"parked": 1.0, "imported": 20.5}
    return ColdStart(
        **{**fields, "revision": "rv", "origin": "forked", "timings_ms": parts, **changes}
    )


def ids(starts) -> list[str]:
    return [start.container for start in starts]


def count(database) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(tables.cold_starts))


async def test_the_last_ones_of_an_app_or_of_a_function_the_newest_last(keep):
    starts = await keep()
    for number in range(4):
        starts.add(start(number, function="fg"[number % 2]))
    starts.add(start(9, app="other"))

    assert ["ta-2", "ta-3"] == ids(await starts.last(MAIN, "app", 2))
    assert ["ta-1", "ta-3"] == ids(await starts.last(MAIN, "app", 9, "g"))
    assert [] == await starts.last(MAIN, "unknown", 9)


async def test_the_start_of_one_container_also_for_a_later_server(keep):
    starts = await keep()
    for number in range(3):
        starts.add(start(number))
    other = start(9, app="other")
    starts.add(other)

    assert start(1) == await starts.of_container(MAIN, "app", "ta-1")
    assert await starts.of_container(MAIN, "app", "ta-9") is None
    starts = await keep()
    assert other == await starts.of_container(MAIN, "other", "ta-9")
    assert await starts.of_container(Scope(environment="dev"), "app", "ta-1") is None


async def test_the_first_byte_comes_later_and_counts_for_the_total(keep):
    starts = await keep()
    starts.add(start(1))
    assert "first_byte" not in (await starts.last(MAIN, "app", 1))[0].timings_ms
    starts.answered("ta-1", 3.0)
    starts.answered("ta-1", 900.0)
    starts.answered("ta-unknown", 1.0)

    assert 3.0 == (await starts.last(MAIN, "app", 1))[0].timings_ms["first_byte"]


async def test_a_later_server_knows_them_and_takes_no_later_answer_for_a_first_one(keep):
    starts = await keep()
    starts.add(start(1, imports_ms={"torch": 900.0}))
    starts.answered("ta-1", 3.0)
    starts.add(start(2, failed="no module named torch"))
    starts.add(start(3))
    before = await starts.last(MAIN, "app", 9)
    later = await keep()
    later.answered("ta-3", 1.0)

    assert before == await later.last(MAIN, "app", 9)


async def test_cold_starts_are_written_soon_by_themselves(keep, database, monkeypatch):
    monkeypatch.setattr(coldstarts, "LATER_S", 0.0)
    starts = await keep()
    starts.add(start(1))

    await until(lambda: count(database), "the row")


async def test_only_so_many_of_an_app_are_kept(keep, database):
    starts = await keep()
    for number in range(3 * KEPT):
        starts.add(start(number))
        if number % 70 == 0:
            await starts._write()
    starts.add(start(1000, app="other"))
    later = await keep()

    assert [f"ta-{n}" for n in range(2 * KEPT, 3 * KEPT)] == ids(await later.last(MAIN, "app", 999))
    assert KEPT + 1 == count(database)


async def test_a_damaged_row_or_an_odd_character_hides_no_other_cold_start(keep, database):
    starts = await keep()
    starts.add(start(1))
    starts.add(start(2, why_fresh="half \ud800 of a character, \0 and 'quotes'"))
    later = await keep()
    with database.writing() as connection:
        row = {"workspace": "main", "environment": "main", "app": "app", "at": 3.0}
        for name, text in (("ta-x", '{"at": 2.0, "app"'), ("ta-y", '{"timings_ms": 3}')):
            connection.execute(
                tables.cold_starts.insert().values(container=name, start=text, **row)
            )

    assert ["ta-1", "ta-2"] == ids(await later.last(MAIN, "app", KEPT))


async def test_files_of_an_earlier_homeport_are_moved_into_the_database(keep, tmp_path):
    folder = tmp_path / "cold-starts"
    folder.mkdir()
    lines = [codec.dumps(start(1)), codec.dumps(start(2)), codec.dumps(start(2, failed="late"))]
    cut = [b'{"at": 2.0, "app"', b"\xff\xfe", b"[]", b"null", b""]
    (folder / "app.jsonl").write_bytes(b"\n".join([*map(str.encode, lines), *cut]))
    starts = await keep()
    starts.move_in(folder)
    await until(lambda: not folder.exists(), "the files to be moved")
    shown = await starts.last(MAIN, "app", 9)

    assert [("ta-1", ""), ("ta-2", "late")] == [(start.container, start.failed) for start in shown]


async def test_without_the_database_they_are_shown_and_written_when_it_is_back(keep, database):
    starts = await keep()
    file, away = database.file, None
    if file is None:
        pytest.skip("PostgreSQL's absence is test_failing's")
    away = file.with_suffix(".away")
    file.rename(away)
    starts.add(start(1))
    await starts._write()

    assert ["ta-1"] == ids(await starts.last(MAIN, "app", 9))
    with pytest.raises(StorageError):
        await database.read(lambda _connection: None)
    away.rename(file)
    assert ["ta-1"] == ids(await (await keep()).last(MAIN, "app", 9))


async def test_each_loss_of_the_database_is_logged_once(keep, database, caplog):
    if (file := database.file) is None:
        pytest.skip("PostgreSQL's absence is test_failing's")
    starts, away = await keep(), database.file.with_suffix(".away")
    warnings = []
    for number in range(2):
        file.rename(away)
        for again in range(2):
            starts.add(start(10 * number + again))
            await starts._write()
        away.rename(file)
        await starts._write()
        warnings.append(caplog.text.count("cold starts are not kept"))

    assert [1, 2] == warnings
    assert 4 == count(database)


async def test_a_deleted_environment_leaves_no_start_in_memory_or_to_be_written(keep):
    starts, staging = await keep(), Scope(environment="staging")
    for number, within in ((1, MAIN), (2, staging)):
        starts.add(start(number, within=within))
    starts.drop(staging)
    starts.answered("ta-2", 1.0)

    assert ["ta-1"] == ids(await starts.last(MAIN, "app", 9))
    assert [] == await starts.last(staging, "app", 9)
    later = await keep()
    assert ["ta-1"] == ids(await later.last(MAIN, "app", 9))
    assert [] == await later.last(staging, "app", 9)
