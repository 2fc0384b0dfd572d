"""Domains that are attached to deployed apps."""

import asyncio
import dataclasses

import pytest

from homeport.contract.errors import BadRequest, LabelTaken, NotFound, ScriptError
from homeport.contract.scope import MAIN, Scope
from homeport.control.certificates.resolving import Pointing
from homeport.control.deploys.domains import Domains, verdict
from homeport.control.fleet.owner import Owner
from tests.control.plane import Plane, function, manifest
from tests.waiting import virtually

SHOP = manifest(function("f"))
APP = Owner.app(MAIN, "shop")
STAGING, ACME = Scope(environment="staging"), Scope(workspace="acme")


class Resolver:
    async def pointing(self, _domain: str) -> Pointing:
        return Pointing(addresses=("192.0.2.1",), expected=("192.0.2.1",))


def declaring(domain: str, app: str, script: str = ""):
    f = function("f")
    web = dataclasses.replace(f.web[0], custom_domains=(domain,))
    return manifest(dataclasses.replace(f, web=(web,)), app=app, script=script)


def hosts(plane: Plane) -> list[tuple[str, ...]]:
    return [endpoint.hosts for endpoint in plane.ingress.endpoints.values() if endpoint.hosts[1:]]


def tried(home, story):
    async def run():
        async with Plane(home) as plane:
            await story(plane, Domains(plane.parts, plane.deployer, Resolver()))

    virtually(run())


def test_a_domain_is_attached_at_once_and_stays_over_deploys_and_rollbacks(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        added = await domains.add("Shop.Example.org", APP, "")
        assert ("shop.example.org", "f", "here", "") == (
            added.domain,
            added.tag,
            added.dns,
            added.problem,
        )
        assert ["shop.example.org"] == [of_endpoint[1] for of_endpoint in hosts(plane)]
        await plane.deploy(manifest(function("f"), script="v2.py"))
        assert ["shop.example.org"] == [of_endpoint[1] for of_endpoint in hosts(plane)]
        await plane.roll_back()
        assert ["shop.example.org"] == [of_endpoint[1] for of_endpoint in hosts(plane)]
        await domains.remove(MAIN, "shop.example.org")
        assert [] == hosts(plane)
        assert [] == await domains.all(MAIN)

    tried(tmp_path, story)


def test_a_domain_of_another_app_is_an_error_that_names_it(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        await plane.deploy(declaring("blog.example.org", "blog"))
        with pytest.raises(LabelTaken, match="`f` of the app `blog`"):
            await domains.add("blog.example.org", APP, "")
        await domains.add("shop.example.org", APP, "")
        with pytest.raises(LabelTaken, match="the app `shop`"):
            await plane.deploy(declaring("shop.example.org", "other"))
        with pytest.raises(BadRequest, match="the script declares"):
            await domains.remove(MAIN, "blog.example.org")
        assert [("blog.example.org", False), ("shop.example.org", True)] == [
            (row.domain, row.by_command) for row in await domains.all(MAIN)
        ]

    tried(tmp_path, story)


def test_a_domain_of_a_stopped_app_is_not_given_to_another_one(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        await domains.add("shop.example.org", APP, "")
        await plane.deployer.stop(APP)
        with pytest.raises(LabelTaken, match="the app `shop`"):
            await plane.deploy(declaring("shop.example.org", "other"))
        await plane.deploy(manifest(function("f"), script="v2.py"))
        assert ["shop.example.org"] == [of_endpoint[1] for of_endpoint in hosts(plane)]
        await domains.remove(MAIN, "shop.example.org")
        await plane.deploy(declaring("shop.example.org", "other"))

    tried(tmp_path, story)


def test_a_domain_that_another_app_got_meanwhile_is_not_attached(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        held, begun = asyncio.Event(), asyncio.Event()

        async def change():
            begun.set()
            await held.wait()

        before = asyncio.ensure_future(plane.deployer.in_turn("deploy", APP, change()))
        await begun.wait()
        adding = asyncio.ensure_future(domains.add("blog.example.org", APP, ""))
        while len(plane.deployer._changes.of(APP)) < 2:  # it waits for its turn
            await asyncio.sleep(0)
        await plane.deploy(declaring("blog.example.org", "blog"))
        held.set()
        await before
        with pytest.raises(LabelTaken, match="the app `blog`"):
            await adding
        assert [] == plane.domains.all()

    tried(tmp_path, story)


def test_a_domain_that_another_app_got_meanwhile_is_not_removed(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        await plane.deploy(manifest(function("f"), app="blog"))
        await domains.add("blog.example.org", APP, "")
        blog, given = Owner.app(MAIN, "blog"), asyncio.Event()

        async def change():
            while plane.domains.all():
                await asyncio.sleep(0)
            await domains.add("blog.example.org", blog, "")
            given.set()

        first = asyncio.ensure_future(domains.remove(MAIN, "blog.example.org"))
        await asyncio.sleep(0)
        between = asyncio.ensure_future(plane.deployer.in_turn("deploy", APP, change()))
        second = asyncio.ensure_future(domains.remove(MAIN, "blog.example.org"))
        await asyncio.gather(first, between)
        with pytest.raises(NotFound):
            await second
        assert given.is_set()
        assert ["blog"] == [row.app for row in plane.domains.all()]

    tried(tmp_path, story)


def test_a_domain_is_removed_by_the_name_by_which_it_was_added(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        await domains.add("Bücher.example", APP, "")
        await domains.remove(MAIN, "bücher.example")
        assert [] == plane.domains.all()
        with pytest.raises(BadRequest, match="is not a domain"):
            await domains.remove(MAIN, "not a domain")

    tried(tmp_path, story)


def test_each_environment_has_its_domains_and_no_two_have_the_same_one(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        await plane.environments.create(STAGING)
        await plane.environments.create_workspace("acme")
        for scope in (STAGING, ACME):
            plane.environments.reopen(scope)  # as `Worlds` does when it has made one

        async def deploy(scope, wanted):
            await plane.deployer.deploy(
                scope, "shop", wanted, tag="", strategy="rolling", say=lambda _text: None
            )

        for scope in (STAGING, ACME):
            await deploy(scope, SHOP)
            theirs = Owner.app(scope, "shop")
            await domains.add(f"{scope.environment}.{scope.workspace}.test", theirs, "")
        await domains.add("a.example.org", APP, "")

        for scope, domain in (
            (MAIN, "a.example.org"),
            (STAGING, "staging.main.test"),
            (ACME, "main.acme.test"),
        ):
            assert [domain] == [row.domain for row in await domains.all(scope)]
        with pytest.raises(LabelTaken, match="app `shop` in the environment `staging`") as refusal:
            await domains.add("staging.main.test", APP, "")
        assert "remove staging.main.test -e staging" in refusal.value.hint
        with pytest.raises(LabelTaken, match="another workspace") as refusal:
            await domains.add("main.acme.test", APP, "")
        assert "shop" not in f"{refusal.value.message}{refusal.value.hint}"
        with pytest.raises(NotFound):
            await domains.remove(MAIN, "main.acme.test")
        for app in (APP, Owner.app(ACME, "shop")):
            await plane.deployer.stop(app)
        with pytest.raises(LabelTaken, match="another workspace"):
            await deploy(MAIN, declaring("main.acme.test", "shop"))
        await plane.deploy(manifest(function("f"), script="v2.py"))
        assert ["a.example.org", "staging.main.test"] == sorted(
            of_endpoint[1] for of_endpoint in hosts(plane)
        )

    tried(tmp_path, story)


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "attached"])
@pytest.mark.parametrize(
    ("theirs", "wanted"), [("*.acme.test", "login.acme.test"), ("www.acme.test", "*.acme.test")]
)
def test_no_workspace_gets_a_host_of_another_one_by_a_wildcard(
    tmp_path, theirs, wanted, is_declared
):
    async def story(plane, domains):
        await plane.environments.create_workspace("acme")
        plane.environments.reopen(ACME)
        await plane.deploy(SHOP, scope=ACME)
        await domains.add(theirs, Owner.app(ACME, "shop"), "")
        await domains.add("*.other.test", Owner.app(ACME, "shop"), "")

        async def want(domain):
            if is_declared:
                await plane.deploy(declaring(domain, "shop"))
            else:
                await domains.add(domain, APP, "")

        await plane.deploy(SHOP)
        for _stopped in range(2):
            with pytest.raises(LabelTaken, match="in common with a domain of another workspace"):
                await want(wanted)
            await plane.deployer.stop(Owner.app(ACME, "shop"))
        await plane.deploy(SHOP, scope=ACME)
        await domains.add("a.b.acme.test", APP, "")
        await domains.add("in.other.test", Owner.app(ACME, "shop"), "")
        await plane.deploy(manifest(function("f"), script="v2.py"), scope=ACME)

    tried(tmp_path, story)


def test_a_domain_that_makes_no_sense_is_refused_and_nothing_changes(tmp_path):
    async def story(plane, domains):
        await plane.deploy(manifest(function("f"), function("g")))
        for error, args in (
            (BadRequest, ("not a domain", APP, "f")),
            (BadRequest, ("a.example.org", APP, "")),  # two URLs
            (NotFound, ("a.example.org", APP, "h")),
            (NotFound, ("a.example.org", Owner.app(MAIN, "none"), "")),
            (ScriptError, ("a.localhost", APP, "f")),
        ):
            with pytest.raises(error):
                await domains.add(*args)
        with pytest.raises(NotFound):
            await domains.remove(MAIN, "a.example.org")
        assert [] == hosts(plane)
        assert [] == plane.domains.all()

    tried(tmp_path, story)


def test_an_ingress_that_fails_leaves_nothing_of_a_domain(tmp_path):
    async def story(plane, domains):
        await plane.deploy(SHOP)
        before = hosts(plane)
        route = plane.parts.endpoints.route

        async def failing(undo, holder, endpoint):
            if endpoint.hosts[1:]:
                raise RuntimeError("no")
            await route(undo, holder, endpoint)

        plane.parts.endpoints.route = failing
        with pytest.raises(RuntimeError):
            await domains.add("a.example.org", APP, "")
        assert before == hosts(plane)
        assert [] == plane.domains.all()
        live = plane.parts.live.get(APP)
        assert all(len(endpoint.endpoint.hosts) <= 1 for endpoint in live.endpoints.values())

    tried(tmp_path, story)


def test_the_verdict_on_a_domain_says_where_it_leads_and_which_record_to_add():
    here = ("203.0.113.5",)
    cases = {
        "here": Pointing(addresses=("203.0.113.5", "203.0.113.6"), expected=here),
        "missing": Pointing(addresses=(), expected=here),
        "elsewhere": Pointing(addresses=("192.0.2.9",), expected=here),
        "unknown": Pointing(addresses=None, expected=here),
    }
    for state, pointing in cases.items():
        assert state == verdict("a.test", pointing)[0]

    assert "add `a.test. A 203.0.113.5`" in verdict("a.test", cases["missing"])[1]
    assert "192.0.2.9" in verdict("a.test", cases["elsewhere"])[1]
    assert "public_addresses" in verdict("a.test", Pointing(addresses=here, expected=()))[1]
