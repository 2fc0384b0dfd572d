"""`homeport domain …` as a user types it."""

import json

from tests.control.plane import function, manifest

DOMAIN = "shop.example.test"


async def test_a_domain_is_added_listed_and_removed(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        assert "no custom domain" in (await user.run("domain", "list")).stderr
        added = await user.run("domain", "add", DOMAIN, "shop")
        (told,) = json.loads((await user.run("domain", "list", "--json")).stdout)
        listed = await user.run("domain", "list")
        unasked = await user.refused("domain", "remove", DOMAIN)
        removed = await user.run("domain", "remove", DOMAIN, "--yes")
        left = json.loads((await user.run("domain", "list", "--json")).stdout)
        missing = await user.refused("domain", "remove", DOMAIN, "--yes")
        words = ["domain", "add", "*.example.test", "shop.web", "--json"]
        again = json.loads((await user.run(*words)).stdout)

    assert "✓ The domain leads to `web` of `shop`" in added.stderr
    assert DOMAIN in added.stdout
    assert f"warning: {told['problem']}" in " ".join(added.stderr.split())
    assert (DOMAIN, "shop", "web") == (told["domain"], told["app"], told["tag"])
    assert [DOMAIN, "shop.web", "command"] == listed.stdout.splitlines()[1].split()[:3]
    assert f"warning: {told['problem']}" in " ".join(listed.stderr.split())
    assert "Rerun with --yes" in unasked
    assert f"✓ `{DOMAIN}` is removed" in removed.stderr
    assert [] == left
    assert DOMAIN in missing
    assert "*.example.test" == again["domain"]


async def test_a_domain_needs_an_app_that_is_deployed(typed):
    async with typed() as user:
        assert "the app `none` is not deployed" in await user.refused(
            "domain", "add", DOMAIN, "none"
        )
