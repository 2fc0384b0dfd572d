"""Alerts and their messages, in the database."""

import dataclasses
import json

import pytest

from homeport.contract.errors import AlreadyExists, BadRequest, NotFound
from homeport.state import alerts, schema
from homeport.state.alerts import MOST, MOST_MESSAGES, AlertRow, Alerts
from homeport.state.scope import MAIN, Scope, columns
from homeport.state.vault import Vault

URL = "https://hook.test/T0/secret"


def row(name: str = "a", scope: Scope = MAIN, **changes) -> AlertRow:
    """Return an alert."""
    usual = {"kind": "errors", "app": "", "tag": "", "threshold": 5.0, "window_s": 300.0}
    usual |= {"url": b"", "trusted": 1, "created_at": 1.5, "state": "ok", "since": 1.5}
    return AlertRow(
        **{**columns(scope), **usual, "name": name, "good_since": None, "told": "", **changes}
    )


@pytest.fixture
def database(empty_database):
    schema.prepare(empty_database)
    return empty_database


@pytest.fixture
def kept(database, tmp_path):
    return Alerts(database, Vault(tmp_path / "vault.key"), lambda: 100.0)


async def test_an_alert_is_kept_with_its_url_sealed(kept, database, tmp_path):
    added = await kept.add(row(), URL)
    later = Alerts(database, Vault(tmp_path / "vault.key"))
    await later.load()
    (read,) = later.all()

    assert added == read
    assert URL == later.url(read)
    assert b"hook" not in read.url
    assert kept.secret(added) == later.secret(read)
    assert kept.secret(added) != kept.secret(row(created_at=2.5))


async def test_a_name_is_unique_in_its_environment(kept):
    await kept.add(row(), URL)
    await kept.add(row(scope=Scope("acme")), URL)
    with pytest.raises(AlreadyExists):
        await kept.add(row(), URL)

    assert ["a"] == [alert.name for alert in kept.of(MAIN)]
    with pytest.raises(NotFound):
        kept.find(MAIN, "b")


async def test_an_environment_has_not_too_many(kept, monkeypatch):
    monkeypatch.setattr(alerts, "MOST", 2)
    assert MOST > 2
    for name in "ab":
        await kept.add(row(name), URL)

    with pytest.raises(BadRequest):
        await kept.add(row("c"), URL)
    await kept.add(row("c", Scope("acme")), URL)


async def test_a_change_and_its_message_are_kept_until_it_is_delivered(kept, database, tmp_path):
    added = await kept.add(row(), URL)
    await kept.become(dataclasses.replace(added, state="firing", since=100.0), {"state": "firing"})
    later = Alerts(database, Vault(tmp_path / "vault.key"))
    await later.load()
    (message,) = await later.messages()
    assert "firing" == later.find(MAIN, "a").state
    assert {"id": "a-100000", "state": "firing"} == json.loads(message.body)
    await later.failed(message, "no answer", 105.0)
    (message,) = await later.messages()
    assert (1, "no answer", 105.0) == (message.tries, message.error, message.next_at)
    await later.delivered(message)

    assert [] == await later.messages()


async def test_an_alert_that_was_removed_meanwhile_gets_no_message(kept):
    added = await kept.add(row(), URL)
    await kept.become(added, {"state": "firing"})
    await kept.remove(MAIN, "a")
    await kept.become(added, {"state": "resolved"})

    assert [] == await kept.messages()
    assert [] == kept.all()


async def test_the_messages_of_a_webhook_that_never_answers_are_bounded(kept):
    added = await kept.add(row(), URL)
    for number in range(MOST_MESSAGES + 3):
        await kept.become(added, {"number": number})
    messages = await kept.messages()

    assert MOST_MESSAGES == len(messages)
    assert MOST_MESSAGES + 2 == json.loads(messages[-1].body)["number"]


async def test_the_alerts_of_a_deleted_environment_are_dropped(kept):
    await kept.add(row(), URL)
    await kept.add(row(scope=Scope("acme")), URL)
    kept.drop(Scope("acme"))

    assert [MAIN] == [alert.scope for alert in kept.all()]


async def test_a_message_that_was_on_its_way_takes_no_later_one_with_it(kept):
    """An alert is removed while its message is sent; its number must not be that of another alert's message."""
    await kept.add(row(), URL)
    await kept.become(row(), {})
    (on_its_way,) = await kept.messages()
    await kept.remove(MAIN, "a")
    await kept.add(row("b"), URL)
    await kept.become(row("b"), {})
    await kept.delivered(on_its_way)

    assert ["b"] == [message.alert for message in await kept.messages()]
