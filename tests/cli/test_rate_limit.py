"""`homeport rate-limit …` as a user types it."""

import json

from tests.control.plane import function, manifest


async def test_a_rate_limit_is_set_listed_and_removed(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        assert "no endpoint has a rate limit" in (await user.run("rate-limit", "list")).stderr
        said = await user.run("rate-limit", "set", "shop", "10/s")
        told = await user.run("rate-limit", "set", "shop.web", "600/m", "--json")
        listed = json.loads((await user.run("rate-limit", "list", "--json")).stdout)
        table = (await user.run("rate-limit", "list")).stdout
        removed = await user.run("rate-limit", "remove", "shop", "--yes")
        left = json.loads((await user.run("rate-limit", "list", "--json")).stdout)

    assert "✓ `shop.web` takes 10/s" in said.stderr
    assert "600/m" == json.loads(told.stdout)["rate"]
    assert [("shop", "web", "600/m")] == [(row["app"], row["tag"], row["rate"]) for row in listed]
    assert ["shop.web", "600/m"] == table.splitlines()[1].split()
    assert "✓ `shop.web` has no rate limit any more" in removed.stderr
    assert [] == left


async def test_the_function_is_named_where_an_app_has_several_rate_limits(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web"), function("page")))
        none = await user.refused("rate-limit", "remove", "shop", "--yes")
        for tag in ("web", "page"):
            await user.run("rate-limit", "set", f"shop.{tag}", "10/s")
        several = await user.refused("rate-limit", "remove", "shop", "--yes")
        unasked = await user.refused("rate-limit", "remove", "shop.page")
        await user.run("rate-limit", "remove", "shop.page", "--yes")
        again = await user.refused("rate-limit", "remove", "shop.page", "--yes")
        wrong = await user.refused("rate-limit", "set", "shop.web", "often")
        table = (await user.run("rate-limit", "list")).stdout

    assert "no endpoint of `shop` has a rate limit" in none
    assert "2 endpoints of `shop` have a rate limit" in several
    assert "`shop.page`, `shop.web`" in several
    assert "Rerun with --yes" in unasked
    assert "`shop.page` has no rate limit" in again
    assert "often" in wrong
    assert ["shop.web", "10/s"] == table.splitlines()[1].split()
