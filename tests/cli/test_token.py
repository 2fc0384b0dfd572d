"""`homeport proxy-token …` as a user types it."""

import json
import time

import pytest


async def test_a_token_is_created_listed_rotated_and_deleted(typed):
    async with typed() as user:
        assert "no token" in (await user.run("proxy-token", "list")).stderr
        options = ["--name", "ci", "--scope", "shop, my.app/web,other.page", "--rate", "3/s"]
        words = ["proxy-token", "create", *options, "--expires", "3d", "--json"]
        headers = json.loads((await user.run(*words)).stdout)
        key = headers["Modal-Key"]
        (told,) = json.loads((await user.run("proxy-token", "list", "--json")).stdout)
        table = (await user.run("proxy-token", "list")).stdout
        rotated = await user.run("proxy-token", "rotate", key, "--overlap", "2h")
        again = await user.run("proxy-token", "rotate", key, "--expires", "1d", "--json")
        (later,) = json.loads((await user.run("proxy-token", "list", "--json")).stdout)
        deleted = await user.run("proxy-token", "delete", key, "--yes")
        missing = await user.refused("proxy-token", "delete", key, "--yes")

    assert f"Bearer {key}.{headers['Modal-Secret']}" == headers["Authorization"]
    assert ["my.app/web", "other/page", "shop"] == told["scopes"]
    assert ("ci", "3/s") == (told["name"], told["rate"])
    assert 3 * 86400 == pytest.approx(told["expires_at"] - time.time(), abs=600)
    assert "my.app/web, other.page, shop" in table, "as `--scope` takes them"
    assert headers["Modal-Secret"] not in table
    assert "never" == table.split()[-1]
    assert f"Modal-Key: {key}\n" in rotated.stdout
    assert "The secret before opens endpoints until 2" in rotated.stderr
    assert headers["Modal-Secret"] not in rotated.stdout
    new = json.loads(again.stdout)
    assert key == new["Modal-Key"]
    assert new["Modal-Secret"] not in rotated.stdout
    assert 86400 == pytest.approx(later["expires_at"] - time.time(), abs=600)
    assert f"✓ Token `{key}` is deleted" in deleted.stderr
    assert key in missing


async def test_a_token_without_options_opens_everything_and_is_shown_both_ways(typed):
    async with typed() as user:
        created = await user.run("proxy-token", "create")
        table = (await user.run("proxy-token", "list")).stdout
        again = await user.run("proxy-token", "rotate", created.stdout.split()[1])

    key, secret = (line.partition(": ")[2] for line in created.stdout.splitlines()[:2])
    assert f"Authorization: Bearer {key}.{secret}" == created.stdout.splitlines()[2]
    assert "its secret is shown this once" in created.stderr
    assert ["all", "no", "limit", "never", "never"] == table.splitlines()[1].split()[-5:]
    assert "opens endpoints until" not in again.stderr, "the secret before opens nothing any more"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "--expires", "soon"], "--expires is 'soon'"),
        (["rotate", "wk-1", "--overlap", "1"], "--overlap is '1'"),
        (["rotate", "wk-1", "--expires", "x"], "--expires is 'x'"),
        (["create", "--rate", "often"], "often"),
        (["rotate", "wk-1"], "wk-1"),
    ],
)
async def test_a_wrong_time_or_token_is_named(typed, words, says):
    async with typed() as user:
        assert says in await user.refused("proxy-token", *words)
