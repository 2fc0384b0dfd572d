"""The audit log: what is kept, for how long, and what a full disk does to it."""

import io
import json
import logging
import signal
import sys

import pytest
from sqlalchemy import select

from homeport.contract.api.audit import AuditEntry, AuditQuery
from homeport.contract.errors import StorageError
from homeport.state import __main__ as commands
from homeport.state import audit as module
from homeport.state import schema, tables, urls
from homeport.state.audit import DAY_S, Audit, Seen
from homeport.state.database import Database

ALL = AuditQuery()


class Clock:
    def __init__(self):
        self.at = 1000.0

    def __call__(self):
        self.at += 1.0
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def audit(database, clock):
    return Audit(database, days=2, now=clock)


def entry(**changes):
    usual = {"by": "token", "token": "ak-1", "workspace": "main", "environment": "main"}
    return AuditEntry(
        **{**usual, "action": "app stop", "result": "ok", "target": "shop", **changes}
    )


async def targets(audit, seen=None, **query):
    return [entry.target for entry in await audit.last(AuditQuery(**query), seen)]


async def test_rows_are_numbered_and_the_newest_are_last(audit):
    for target in ("a", "b", "c"):
        await audit.add(entry(target=target))

    assert [(1, "a"), (2, "b"), (3, "c")] == [(e.id, e.target) for e in await audit.last(ALL, None)]
    assert ["b", "c"] == await targets(audit, tail=2)


async def test_a_change_that_has_begun_ends_in_the_same_row(audit):
    number = await audit.add(entry(result="begun"))
    await audit.end(number, entry(result="StartError", target="shop v3"))
    (row,) = await audit.last(ALL, None)

    assert ("StartError", "shop v3", 1001.0) == (row.result, row.target, row.at)


async def test_each_filter(audit):
    await audit.add(entry(target="a", user="ada", app="shop"))
    await audit.add(entry(target="b", user="bob", environment="staging"))
    await audit.add(entry(target="c", by="socket", token="", app="shop"))

    assert ["a"] == await targets(audit, user="ada")
    assert ["a", "b"] == await targets(audit, user="ak-1")
    assert ["c"] == await targets(audit, user="socket")
    assert ["a", "c"] == await targets(audit, app="shop")
    assert ["b"] == await targets(audit, environment="staging")
    assert ["b", "c"] == await targets(audit, since=1002.0)
    assert ["c"] == await targets(audit, app="shop", user="socket")


async def test_a_workspace_sees_its_own_rows_alone(audit):
    await audit.add(entry(target="main"))
    await audit.add(entry(target="before", workspace="acme"))
    await audit.add(entry(target="acme", workspace="acme"))
    await audit.add(entry(target="staging", workspace="acme", environment="staging"))
    await audit.add(entry(target="server", workspace="", environment=""))

    assert ["acme", "staging"] == await targets(audit, Seen(workspace="acme", since=1003.0))
    of_staging = Seen(workspace="acme", environments=frozenset({"staging"}))
    assert ["staging"] == await targets(audit, of_staging)
    assert [] == await targets(audit, of_staging, environment="main")


async def test_no_name_forges_a_line_or_a_colour(audit):
    forged = "shop\n2026-01-01 admin token create ok\r\x1b[2J\u202e\0"
    await audit.add(entry(target=forged, user=forged, app=forged, source=forged))
    (row,) = await audit.last(ALL, None)

    for text in (row.target, row.user, row.app, row.source):
        assert text.isprintable()
    assert row.target.startswith("shop\\u000a2026-01-01")
    assert "\\u001b[2J\\u202e\\u0000" in row.target
    assert len(row.user) <= 64
    await audit.add(entry(target="x" * 10_000))
    assert 512 == len((await targets(audit))[-1])


async def test_old_rows_go(audit, clock):
    await audit.add(entry(target="old"))
    clock.at += 2 * DAY_S
    await audit.add(entry(target="new"))
    await audit.trim()

    assert ["new"] == await targets(audit)


async def test_a_flood_of_one_caller_pushes_out_no_row_of_another(audit, monkeypatch):
    monkeypatch.setattr(module, "MOST_OF_ONE", 3)
    await audit.add(entry(target="mine", token="ak-2"))
    await audit.add(entry(target="inside", by="container", token=""))
    for number in range(10):
        await audit.add(entry(target=f"flood {number}"))
    await audit.trim()

    assert ["mine", "inside", "flood 7", "flood 8", "flood 9"] == await targets(audit)
    monkeypatch.setattr(module, "MOST", 2)
    await audit.trim()
    assert ["flood 8", "flood 9"] == await targets(audit)
    assert 13 == await audit.add(entry())  # a number is used once


async def test_a_row_that_cannot_be_written_is_in_the_servers_log(audit, monkeypatch, caplog):
    async def full(_work):
        raise StorageError("the disk is full")

    monkeypatch.setattr(audit._database, "together", full)
    with caplog.at_level(logging.ERROR):
        number = await audit.add(entry(result="begun", target="a\nb"))
        await audit.end(number, entry(target="a\nb v2"))

    assert number is None
    first, second = (record.getMessage() for record in caplog.records)
    assert "(the disk is full)" in first
    assert ["begun", "ok"] == [
        json.loads(text[text.index("{") :])["result"] for text in (first, second)
    ]
    assert "\n" not in first + second


def test_a_command_of_the_service_writes_a_row_without_a_server(tmp_path, monkeypatch, capsys):
    row = {"action": "service upgrade", "result": "ok", "target": "v2 (by ada)"}
    order = json.dumps({"do": "audit", "settings": {"home": "/elsewhere"}, **row})
    monkeypatch.setenv("HOMEPORT_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["homeport.state"])
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        monkeypatch.setattr(sys, "stdin", io.StringIO(order))
        assert 0 == commands.main()  # no server has ever run: no database is made
        assert [] == list(tmp_path.iterdir())
        database = Database(urls.of("", tmp_path))
        schema.prepare(database)
        monkeypatch.setattr(sys, "stdin", io.StringIO(order))
        assert 0 == commands.main()
    finally:
        for number, before in zip((signal.SIGTERM, signal.SIGHUP), handlers, strict=True):
            signal.signal(number, before)
    with database.reading() as connection:
        [kept] = connection.execute(select(tables.audit)).mappings()
    database.dispose()

    assert row == {name: kept[name] for name in row}
    assert ("socket", "") == (kept["by"], kept["user"])
    assert "{}{}" == capsys.readouterr().out
