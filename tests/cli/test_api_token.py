"""`homeport token …` and `homeport user …` as a user types them."""

import json
import time

import pytest


async def test_a_token_is_created_listed_and_deleted_by_its_name(typed):
    async with typed() as user:
        assert "no token" in (await user.run("token", "list")).stderr
        options = ["--scope", "read, deploy", "--name", "ci", "--user", "ada", "--expires", "90d"]
        await user.run("environment", "create", "staging")
        created = await user.run("token", "create", *options, "--env", "main,staging")
        (told,) = json.loads((await user.run("token", "list", "--json")).stdout)
        table = (await user.run("token", "list")).stdout
        unasked = await user.refused("token", "delete", "ci")
        deleted = await user.run("token", "delete", "ci", "--yes")
        missing = await user.refused("token", "delete", "ci", "--yes")

    secret = created.stdout.removeprefix("HOMEPORT_TOKEN=").strip()
    assert secret.startswith(told["id"])
    assert f"✓ Token `{told['id']}`; its secret is shown this once" in created.stderr
    assert ("ci", "ada", ["read", "deploy"]) == (told["name"], told["user"], told["scopes"])
    assert ["main", "staging"] == told["environments"]
    assert 90 * 86400 == pytest.approx(told["expires_at"] - time.time(), abs=600)
    assert "read, deploy" in table
    assert "main, staging" in table
    assert "Workspace" not in table
    assert secret not in table
    assert "never" == table.split()[-1]
    assert "Rerun with --yes" in unasked
    assert f"✓ Token `{told['id']}` is deleted" in deleted.stderr
    assert "there is no token `ci`" in missing


async def test_one_of_two_tokens_with_a_name_is_chosen_by_its_id(typed):
    async with typed() as user:
        words = ["token", "create", "--scope", "read", "--name", "ci", "--json"]
        ids = [json.loads((await user.run(*words)).stdout)["token"]["id"] for _ in range(2)]
        several = await user.refused("token", "delete", "ci", "--yes")
        await user.run("token", "delete", ids[0], "--yes")
        (left,) = json.loads((await user.run("token", "list", "--json")).stdout)

    assert "2 tokens have the name `ci`" in several
    assert all(f"`{id_}`" in several for id_ in ids)
    assert ids[1] == left["id"]


async def test_a_token_without_a_name_is_not_chosen_by_an_empty_one(typed):
    async with typed() as user:
        await user.run("token", "create", "--scope", "read")
        table = (await user.run("token", "list")).stdout

        assert "there is no token ``" in await user.refused("token", "delete", "", "--yes")
    assert ["read", "all", "never", "never"] == table.splitlines()[1].split()[-4:]


async def test_a_token_of_another_workspace_is_shown_with_it(typed):
    async with typed() as user:
        await user.run("workspace", "create", "acme")
        for words in (["--workspace", "acme"], []):
            await user.run("token", "create", "--scope", "read", "--user", "eve", *words)
        table = (await user.run("token", "list")).stdout

    assert "Workspace" == table.splitlines()[0].split()[-1]
    assert {"acme", "main"} == {line.split()[-1] for line in table.splitlines()[1:]}


async def test_a_scope_or_a_time_that_there_is_not_is_named(typed):
    async with typed() as user:
        scope = await user.refused("token", "create", "--scope", "read,wrte")
        expires = await user.refused("token", "create", "--scope", "read", "--expires", "soon")

    assert "there is no scope `wrte`" in scope
    assert "read, deploy, secrets, admin" in scope
    assert "--expires is 'soon'" in expires


async def test_info_says_who_one_is(typed, home):
    async with typed() as user:
        told = json.loads((await user.run("token", "info", "--json")).stdout)
        rows = dict(
            line.split(maxsplit=1)
            for line in (await user.run("token", "info")).stdout.splitlines()
            if len(line.split()) > 1
        )

    assert "socket" == told["by"]
    assert str(home) == rows["Server"].strip()
    assert "the server's own" == rows["User"].strip()
    assert ["read,", "deploy,", "secrets,", "admin"] == rows["Permissions"].split()
    assert "all" == rows["Environments"].strip()
    assert "at never" == " ".join(rows["Expires"].split())


async def test_a_user_is_deleted_with_all_tokens(typed):
    async with typed() as user:
        assert "no user has a token" in (await user.run("user", "list")).stderr
        for name in ("ada", "ada", "bob"):
            await user.run("token", "create", "--scope", "read", "--user", name)
        told = json.loads((await user.run("user", "list", "--json")).stdout)
        table = (await user.run("user", "list")).stdout
        unasked = await user.refused("user", "delete", "ada")
        deleted = await user.run("user", "delete", "ada", "--yes")
        left = json.loads((await user.run("user", "list", "--json")).stdout)

    assert [("ada", 2, None), ("bob", 1, None)] == [
        (each["user"], len(each["tokens"]), each["used_at"]) for each in told
    ]
    assert [["ada", "2"], ["bob", "1"]] == [line.split() for line in table.splitlines()[1:]]
    assert "Rerun with --yes" in unasked
    assert "✓ 2 tokens of `ada` deleted" in deleted.stderr
    assert ["bob"] == [each["user"] for each in left]
