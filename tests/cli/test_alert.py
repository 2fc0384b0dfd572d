"""`homeport alert …` as a user types it."""

import json

import pytest

HOOK = "https://127.0.0.1:1/hidden"


async def test_an_alert_is_added_listed_tested_and_removed(typed):
    async with typed() as user:
        assert "there is no alert: `homeport alert add`" in (await user.run("alert", "list")).stderr
        words = ["alert", "add", "slow", "latency", "--webhook", HOOK]
        added = await user.run(*words, "--app", "shop.web", "--limit", "2s", "--within", "10m")
        (told,) = json.loads((await user.run("alert", "list", "--json")).stdout)
        table = (await user.run("alert", "list")).stdout
        failed = await user.refused("alert", "test", "slow")
        unasked = await user.refused("alert", "remove", "slow")
        removed = await user.run("alert", "remove", "slow", "--yes")
        left = json.loads((await user.run("alert", "list", "--json")).stdout)

    assert "✓ `slow` tells https://127.0.0.1:1/…" in added.stderr
    assert "which is not shown again" in added.stderr
    assert 64 == len(added.stdout.strip())
    assert ("slow", "latency", "shop", "web") == tuple(
        told[name] for name in ("name", "kind", "app", "tag")
    )
    assert (2000.0, 600.0) == (told["limit"], told["window_s"])
    assert {"slow", "latency", "shop.web", "2000ms"} <= set(table.split())
    assert "hidden" not in table + added.stdout + added.stderr
    assert "the message was not delivered" in failed
    assert "Rerun with --yes" in unasked
    assert "✓ the alert `slow` is removed" in removed.stderr
    assert [] == left


async def test_an_alert_without_a_limit_has_that_of_its_kind(typed):
    async with typed() as user:
        words = ["alert", "add", "full", "disk", "--webhook", HOOK, "--json"]
        added = json.loads((await user.run(*words)).stdout)
        table = (await user.run("alert", "list")).stdout

    assert (90.0, 300.0) == (added["alert"]["limit"], added["alert"]["window_s"])
    assert 64 == len(added["secret"])
    assert "90%" in table.split()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["latency", "--limit", "5%"], "`5%` is no limit of `latency`"),
        (["errors", "--limit", "much"], "`much` is no limit of `errors`"),
        (["errors", "--within", "soon"], "--within is 'soon'"),
        (["weather", "--limit", "5%"], "weather"),
    ],
)
async def test_a_limit_has_the_unit_of_its_kind(typed, words, says):
    async with typed() as user:
        assert says in await user.refused("alert", "add", "x", *words, "--webhook", HOOK)
