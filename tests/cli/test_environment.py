"""`homeport environment …` and `homeport workspace …` as a user types them."""

import json

from tests.control.plane import function, manifest


async def test_an_environment_is_created_listed_changed_and_deleted(typed):
    async with typed() as user:
        created = await user.run("environment", "create", "staging")
        told = json.loads((await user.run("environment", "list", "--json")).stdout)
        active = (await user.run("environment", "list", HOMEPORT_ENVIRONMENT="staging")).stdout
        suffix = await user.run("environment", "update", "staging", "--set-web-suffix", "st")
        taken = await user.refused("environment", "create", "staging")
        await user.run("secret", "create", "db", "X=1", "-e", "staging")
        unasked = await user.refused("environment", "delete", "staging")
        deleted = await user.run("environment", "delete", "staging", "--yes")
        again = await user.run("environment", "create", "staging", "--web-suffix", "s", "--json")
        secrets = json.loads((await user.run("secret", "list", "-e", "staging", "--json")).stdout)

    assert "✓ Environment `staging`." in created.stderr
    assert "`homeport deploy -e staging script.py` deploys there" in created.stderr
    assert [("main", "", "True"), ("staging", "staging", "False")] == [
        (row["name"], row["web_suffix"], row["active"]) for row in told
    ]
    assert ["main", "False"] == active.splitlines()[1].split()
    assert ["staging", "staging", "True"] == active.splitlines()[2].split()
    assert "✓ `staging` has the web suffix `st`." in suffix.stderr
    assert "staging" in taken
    assert "Rerun with --yes" in unasked
    assert "✓ Deleted the environment `staging`; 0 containers ended" in deleted.stderr
    assert "s" == json.loads(again.stdout)["web_suffix"]
    assert [] == secrets


async def test_the_suffix_can_be_empty_once(typed):
    async with typed() as user:
        await user.run("environment", "create", "staging")
        await user.run("environment", "update", "main", "--set-web-suffix", "prod")
        none = await user.run("environment", "update", "staging", "--web-suffix", "")
        second = await user.refused("environment", "update", "main", "--web-suffix", "")
        missing = await user.refused("environment", "delete", "none", "--yes")

    assert "✓ `staging` has no web suffix." in none.stderr
    assert "staging" in second
    assert "none" in missing


async def test_a_workspace_is_created_listed_and_deleted(typed):
    async with typed() as user:
        created = await user.run("workspace", "create", "acme")
        told = json.loads((await user.run("workspace", "list", "--json")).stdout)
        table = (await user.run("workspace", "list")).stdout
        unasked = await user.refused("workspace", "delete", "acme")
        deleted = await user.run("workspace", "delete", "acme", "--yes")
        again = json.loads((await user.run("workspace", "create", "acme", "--json")).stdout)
        # As Modal spells it.
        tokens = await user.run("workspace", "proxy-tokens", "list")

    assert "✓ Workspace `acme`. Its users need tokens of their own." in created.stderr
    acme = next(row for row in told if row["name"] == "acme")
    row = next(line.split() for line in table.splitlines() if line.startswith("acme"))
    assert ["acme", acme["slug"], str(acme["environments"])] == row[:3]
    assert ["Name", "URLs", "Environments", "Created", "at"] == table.splitlines()[0].split()
    assert "Rerun with --yes" in unasked
    assert "✓ Deleted the workspace `acme`; 0 containers ended" in deleted.stderr
    assert "acme" == again["name"]
    assert "no token" in tokens.stderr


async def test_a_command_reaches_only_its_environment(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        await user.run("environment", "create", "staging")
        here = json.loads((await user.run("app", "list", "--json")).stdout)
        there = json.loads((await user.run("app", "list", "-e", "staging", "--json")).stdout)
        missing = await user.refused("app", "stop", "shop", "-e", "staging", "--yes")
        unknown = await user.refused("app", "list", "-e", "none")

    assert (["shop"], []) == ([app["name"] for app in here], there)
    assert "No App with name 'shop' found" in missing
    assert "none" in unknown
