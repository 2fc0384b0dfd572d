"""A revision's endpoints follow from its manifest, and are planned once."""

import asyncio

import pytest

from homeport.contract.calls import endpoint_id
from homeport.contract.errors import ScriptError
from homeport.contract.manifest import CallMethod, FunctionSpec, WebKind, WebMethod
from homeport.contract.scope import MAIN
from homeport.control.deploys.plans import Plans, pools
from homeport.control.fleet.owner import Owner
from homeport.settings import Settings
from homeport.state.environments import Environments
from homeport.state.rows import Revision
from tests.control.plane import KEY, Plane, function, manifest
from tests.waiting import virtually


def revision(*functions: FunctionSpec, version: int = 1) -> Revision:
    return Revision(id=f"rv-{version}", app="shop", version=version, manifest=manifest(*functions))


def web(tag: str, **rest) -> FunctionSpec:
    method = WebMethod(tag=tag, attribute=tag, kind=WebKind.FASTAPI, **rest)
    return FunctionSpec(name=tag, module="script", qualname=tag, web=(method,))


@pytest.fixture
def plans(tmp_path):
    return Plans(Settings(home=tmp_path, workspace="ada", http_port=4663), environments())


def environments():
    return Environments(None, lambda text: text.replace("\0", "-"), slug="ada")


def urls(endpoints):
    return [live.url for live in endpoints.values()]


def test_an_app_and_each_of_its_versions_have_urls(plans):
    plan = plans.of(revision(function("f"), version=3))

    assert ["http://ada--shop-f.localhost:4663"] == urls(plan.endpoints)
    assert ["http://ada--shop-f-v3.localhost:4663"] == urls(plan.of_version)
    assert {"f": "http://ada--shop-f.localhost:4663"} == plan.urls


def test_a_session_has_urls_of_its_own_and_no_versions(plans):
    plan = plans.of(revision(function("f"), version=0))

    assert ["http://ada--shop-f-dev.localhost:4663"] == urls(plan.endpoints)
    assert {} == plan.of_version


CLASS = FunctionSpec(
    name="Scale.*",
    module="script",
    qualname="Scale",
    is_class=True,
    web=(WebMethod(tag="Scale.shown", attribute="shown", kind=WebKind.FASTAPI),),
    calls=(CallMethod(tag="Scale.times", attribute="times"),),
    timeout_s=7.0,
)


def test_a_function_without_a_url_has_an_endpoint_that_no_visitor_can_name(plans):
    plan = plans.of(revision(CLASS, version=3))
    (shown, times) = plan.endpoints.values()
    (_, old) = plan.of_version.values()

    assert endpoint_id("shop", "Scale.times", key=KEY) == times.endpoint.id
    assert endpoint_id("shop", "Scale.times", key=KEY, version=3) == old.endpoint.id
    assert ((), None, "", True) == (
        times.endpoint.hosts,
        times.endpoint.local_port,
        times.url,
        times.endpoint.is_called,
    )
    assert ("shown", "times") == (shown.endpoint.method, times.endpoint.method)
    assert {"Scale.shown"} == set(plan.urls)


def test_the_functions_of_a_session_are_not_those_of_the_deployed_app(plans):
    plan = plans.of(revision(CLASS, version=0), Owner.session(MAIN, "abc").session_id)
    ids = [live.endpoint.id for live in plan.endpoints.values() if live.endpoint.is_called]

    assert [endpoint_id("shop", "Scale.times", key=KEY, scope="abc")] == ids
    assert {} == plan.of_version


def test_the_port_of_a_web_server_belongs_to_one_version(plans):
    plan = plans.of(revision(function("f", port=8000), function("g")))

    assert ["f", "g"] == [live.tag for live in plan.endpoints.values()]
    assert ["g"] == [live.tag for live in plan.of_version.values()]


def test_port_80_is_not_written_and_a_custom_domain_is_no_versions(tmp_path):
    plans = Plans(Settings(home=tmp_path, workspace="ada", http_port=80), environments())
    plan = plans.of(revision(web("f", custom_domains=("Shop.Example.com",))))
    (live,), (old,) = plan.endpoints.values(), plan.of_version.values()

    assert "http://ada--shop-f.localhost" == live.url
    assert ("ada--shop-f.localhost", "shop.example.com") == live.endpoint.hosts
    assert ("ada--shop-f-v1.localhost",) == old.endpoint.hosts


@pytest.mark.parametrize(("port", "shown"), [(443, ""), (4664, ":4664")])
def test_with_tls_every_url_is_https(tmp_path, port, shown):
    settings = Settings(home=tmp_path, workspace="ada", tls="files", https_port=port)
    plans = Plans(settings, environments())
    plan = plans.of(revision(web("f")))

    assert f"https://ada--shop-f.localhost{shown}" == plan.urls["f"]
    assert [f"https://ada--shop-f-v1.localhost{shown}"] == [
        live.url for live in plan.of_version.values()
    ]


def test_two_functions_with_one_url_are_refused_each_time(plans):
    twins = revision(web("f", label="same"), web("g", label="same", where="shop.py:9"))
    for _ in range(2):
        with pytest.raises(
            ScriptError, match=r"`f` and `g` have the same URL, \S+--same\."
        ) as refusal:
            plans.of(twins)

        assert "shop.py:9" == refusal.value.where


@pytest.mark.parametrize("domain", ["localhost", "x.localhost", "*.localhost", "X.LocalHost"])
def test_a_custom_domain_that_is_ours_is_refused(plans, domain):
    with pytest.raises(ScriptError, match="where every app has its URLs"):
        plans.check_domains(revision(web("f", custom_domains=(domain,))))

    plans.check_domains(revision(web("f", custom_domains=("notlocalhost", "a.example.com"))))


@pytest.mark.parametrize("wildcard", ["*.example.com", "*.Example.COM"])
def test_a_wildcard_that_covers_our_own_domain_is_refused(tmp_path, wildcard):
    plans = Plans(Settings(home=tmp_path, domain="apps.example.com"), environments())
    with pytest.raises(ScriptError, match="which is homeport's own"):
        plans.check_domain(wildcard)

    for other in ("*.com", "*.example.org", "shop.example.com", "*.shop.example.com"):
        plans.check_domain(other)


def test_a_domain_of_two_functions_is_refused(tmp_path):
    attached = {"f": ("shop.example.com",)}
    plans = Plans(
        Settings(home=tmp_path),
        environments(),
        attached=lambda _scope, _app, tag: attached.get(tag, ()),
    )
    g = web("g", custom_domains=("Shop.example.com",), where="shop.py:9")
    for f in (web("f"), web("f", custom_domains=("shop.example.com",))):
        with pytest.raises(ScriptError, match="`f` and `g` have the same domain") as refusal:
            plans.check_domains(revision(f, g))
        assert "shop.py:9" == refusal.value.where

    plans.check_domains(revision(web("f", custom_domains=("shop.example.com",)), web("h")))


def test_a_plan_is_made_once_until_it_is_forgotten(plans):
    first = plans.of(revision(function("f")))
    again = plans.of(revision(function("f")))
    plans.forget("rv-1")
    plans.forget("rv-unknown")

    assert first is again
    assert first is not plans.of(revision(function("f")))


def test_each_function_has_a_pool_whose_containers_know_every_url(plans, tmp_path):
    wanted = revision(function("f"), function("g"), version=0)
    opened = pools(wanted, plans.of(wanted), owner=Owner.session(MAIN, "1"), tree=tmp_path)

    assert ["f", "g"] == [pool.key.function for pool in opened]
    assert {"f", "g"} == set(opened[0].urls) == set(opened[1].urls)
    assert all(pool.ephemeral and pool.owner == Owner.session(MAIN, "1") for pool in opened)


def test_the_plan_of_a_revision_goes_with_its_files(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            for seconds in range(1, 4):
                await plane.deploy(manifest(function("f", timeout_s=float(seconds))))
            kept = {row.id for row in await plane.store.revisions("shop")}
            app = await plane.deployer.sessions.serve(
                MAIN, "s1", manifest(function("f")), lambda _text: None
            )
            assert {*kept, app.revision.id} == set(plane.parts.plans._plans)
            await plane.deployer.stop(Owner.session(MAIN, "s1"))
            while app.revision.id in plane.parts.plans._plans:
                await asyncio.sleep(0.1)  # on a virtual clock

            assert kept == set(plane.parts.plans._plans)

    virtually(story())
