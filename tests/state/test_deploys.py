"""The tries to deploy, as they are kept."""

import pytest

from homeport.state import deploys
from homeport.state.deploys import INTERRUPTED, KEPT, LONGEST, OK, RUNNING, Deploys
from homeport.state.scope import MAIN, Scope

OTHER = Scope("acme", "main")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def kept(database):
    return Deploys(database, Clock())


@pytest.fixture
def database(empty_database):
    from homeport.state import schema

    schema.prepare(empty_database)
    return empty_database


async def test_each_try_has_its_beginning_and_its_end(kept):
    first = await kept.begin(MAIN, "shop", "deploy", tag="nice", by="token", user="ada")
    assert [RUNNING] == [change.result for change in await kept.last(MAIN)]
    await kept.end(first, OK, version=1)
    second = await kept.begin(MAIN, "shop", "rollback", by="socket")
    await kept.end(second, "StartError", reason="no fuel" + "x" * LONGEST)
    newest, oldest = await kept.last(MAIN, "shop")

    assert ("deploy", "nice", "token", "ada", 1, OK) == (
        oldest.kind,
        oldest.tag,
        oldest.by,
        oldest.user,
        oldest.version,
        oldest.result,
    )
    assert (101.0, 102.0) == (oldest.at, oldest.ended_at)
    assert ("StartError", None, LONGEST) == (newest.result, newest.version, len(newest.reason))
    assert {("shop", 1): ("token", "ada")} == await kept.deployers(MAIN, "shop")
    assert {} == await kept.deployers(MAIN, "blog")
    assert {} == await kept.deployers(MAIN, since=103.0)


async def test_an_environment_has_its_own(kept):
    await kept.begin(MAIN, "shop", "deploy", by="socket")
    await kept.begin(OTHER, "shop", "stop", by="token")

    assert ["deploy"] == [change.kind for change in await kept.last(MAIN)]
    assert ["stop"] == [change.kind for change in await kept.last(OTHER)]


async def test_the_newest_ones_of_each_app_are_kept(kept):
    await kept.begin(MAIN, "blog", "deploy", by="socket")
    for _ in range(KEPT + 3):
        await kept.begin(MAIN, "shop", "deploy", by="socket")
    changes = await kept.last(MAIN, "shop")

    assert KEPT == len(changes)
    assert KEPT + 4 == changes[0].id
    assert 1 == len(await kept.last(MAIN, "blog"))
    assert 2 == len(await kept.last(MAIN, count=2))


async def test_a_server_that_was_killed_leaves_interrupted_ones(kept):
    await kept.end(await kept.begin(MAIN, "shop", "deploy", by="socket"), OK, version=1)
    await kept.begin(MAIN, "shop", "deploy", by="socket")
    await kept.interrupt()
    await kept.interrupt()
    newest, oldest = await kept.last(MAIN)

    assert (INTERRUPTED, OK) == (newest.result, oldest.result)
    assert newest.ended_at is not None
    assert "the server ended" == newest.reason


async def test_a_row_that_cannot_be_written_stops_no_deploy(kept, monkeypatch, caplog):
    async def refuse(_work):
        raise deploys.StorageError("the disk is full")

    monkeypatch.setattr(kept._database, "write", refuse)
    number = await kept.begin(MAIN, "shop", "deploy", by="socket")
    await kept.end(number, OK)

    assert number is None
    assert "the disk is full" in caplog.text
