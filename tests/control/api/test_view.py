"""The API shows what really runs, also if the store and the fleet disagree."""

import asyncio
import dataclasses

import pytest

from homeport.contract.api.apps import AppState
from homeport.contract.container import LogLine
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.manifest import WebKind, WebMethod
from homeport.contract.scope import MAIN, Scope
from homeport.control.api.view import View
from homeport.control.fleet.owner import Owner
from tests.control.plane import Plane, function, manifest
from tests.waiting import virtually


def view_of(plane: Plane) -> View:
    return View(
        plane.parts,
        plane.deployer,
        ingress_pid=lambda: 7,
        kept=lambda: (False, None),
        next_runs=lambda _app: {},
        expires_at={Owner.app(MAIN, "shop"): 12.0}.get,
    )


def test_a_deployed_app_comes_before_a_session_of_its_name_and_before_stopped_ones(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            view = view_of(plane)
            await plane.deploy(manifest(function("f"), app="old"))
            await plane.deployer.stop_app(MAIN, "old")
            await plane.deploy(manifest(function("f")))
            await asyncio.sleep(1)
            await plane.deployer.sessions.serve(
                MAIN, "s1", manifest(function("g")), lambda _text: None
            )

            apps = (await view.apps(MAIN)).apps
            assert [
                ("shop", AppState.SERVING),
                ("shop", AppState.DEPLOYED),
                ("old", AppState.STOPPED),
            ] == [(app.name, app.state) for app in apps]
            assert AppState.DEPLOYED is (await view.app(MAIN, "shop")).state
            assert (await view.app(MAIN, "old")).stopped_at is not None
            assert (0, 1) == (apps[0].version, apps[1].version)
            assert (None, 12.0) == (apps[0].expires_at, apps[1].expires_at)
            with pytest.raises(NotFound) as caught:
                await view.app(MAIN, "none")
            assert "there is `shop`, `shop`, `old`" == caught.value.hint

    virtually(story())


def test_the_numbers_of_a_function_are_told_once_however_many_urls_it_has(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            web = tuple(WebMethod(tag=f"C.{m}", attribute=m, kind=WebKind.FASTAPI) for m in "ab")
            await plane.deploy(
                manifest(
                    function("f"),
                    dataclasses.replace(function("C.*"), qualname="C", is_class=True, web=web),
                )
            )

            app = await view_of(plane).app(MAIN, "shop")
            assert [("f", 1), ("C.*", 1)] == [(f.name, f.cold_starts) for f in app.functions]
            assert ["f", "C.*", "C.*"] == [endpoint.function for endpoint in app.endpoints]
            assert [1, 1, 1] == [endpoint.cold_starts for endpoint in app.endpoints]

    virtually(story())


def test_each_apps_containers_are_its_own(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            view = view_of(plane)
            await plane.deploy(manifest(function("f"), function("g"), app="one"))
            await plane.deploy(manifest(function("f"), app="two"))

            one, two = await view.app(MAIN, "one"), await view.app(MAIN, "two")
            assert {"f", "g"} == {container.function for container in one.containers}
            assert [1, 1] == [endpoint.containers for endpoint in one.endpoints]
            assert ["two"] == [container.app for container in two.containers]
            every = await view.containers_of(MAIN)
            assert len(every) == len(one.containers) + len(two.containers)
            assert {"here"} == {container.node for container in every}
            assert one.containers == view.containers(Owner.app(MAIN, "one"))
            assert () == await view.containers_of(Scope("main", "other"))

    virtually(story())


def test_the_numbers_of_an_endpoint_are_those_of_its_pool(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            view = view_of(plane)
            deployed = await plane.deploy(manifest(function("f")))
            plane.ingress.quantiles_ms = lambda _endpoint: (12, 99)
            (name,) = deployed.app.endpoints
            await plane.visit(name)
            await asyncio.sleep(1)

            (endpoint,) = view.endpoints(deployed.app)
            assert (1, 1, 0) == (endpoint.served, endpoint.cold_starts, endpoint.failed_starts)
            assert (0, 0) == (endpoint.running, endpoint.queued)
            assert (12, 99) == (endpoint.p50_ms, endpoint.p99_ms)
            assert endpoint.local_url.startswith("http://127.0.0.1:5")

    virtually(story())


def test_history_says_which_version_serves(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            view = view_of(plane)
            await plane.deploy(manifest(function("f", timeout_s=1.0)))
            await plane.deploy(manifest(function("f", timeout_s=2.0)))
            serving = (await view.history(MAIN, "shop")).revisions
            await plane.deployer.stop_app(MAIN, "shop")
            stopped = (await view.history(MAIN, "shop")).revisions

            assert [(2, True), (1, False)] == [(each.version, each.current) for each in serving]
            assert [(2, False), (1, False)] == [(each.version, each.current) for each in stopped]
            assert "-v1." in serving[1].urls["f"]
            with pytest.raises(NotFound):
                await view.history(MAIN, "none")

    virtually(story())


def test_a_broken_app_says_why(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            await plane.deploy(manifest(function("f")))
            plane.parts.live.put(Owner.app(MAIN, "shop"), None)
            plane.deployer.broken[Owner.app(MAIN, "shop")] = "a port is taken"

            app = await view_of(plane).app(MAIN, "shop")
            assert (AppState.BROKEN, "a port is taken") == (app.state, app.reason)

    virtually(story())


def test_a_database_that_cannot_be_read_hides_nothing_that_serves(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            view = view_of(plane)
            await plane.deploy(manifest(function("f"), app="old"))
            await plane.deployer.stop_app(MAIN, "old")
            await plane.deploy(manifest(function("f")))
            before = await view.status()
            read, plane.stores.apps = plane.stores.apps, broken
            during = await view.status()
            plane.stores.apps = read
            after = await view.status()

            assert ["", "the disk is gone", ""] == [s.trouble for s in (before, during, after)]
            assert ["shop", "old"] == [app.name for app in during.apps]
            assert (7, False) == (during.ingress_pid, during.kept)

    async def broken():
        raise StorageError("the disk is gone")

    virtually(story())


def test_a_line_belongs_to_whoever_has_its_container_or_its_function(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            view = view_of(plane)
            await plane.deploy(manifest(function("f")))
            await plane.deployer.sessions.serve(
                MAIN, "s1", manifest(function("g")), lambda _text: None
            )
            await asyncio.sleep(1)
            owners = (Owner.app(MAIN, "shop"), Owner.session(MAIN, "s1"))

            def who(**line):
                told = LogLine(**{"at": 0.0, "app": "shop", "function": "f", "text": "", **line})
                return [owner for owner in owners if view.is_owners(owner, told)]

            for container in await view.containers_of(MAIN):
                owner = (
                    Owner.app(MAIN, "shop")
                    if container.function == "f"
                    else Owner.session(MAIN, "s1")
                )
                assert [owner] == who(container=container.id)
            assert [Owner.app(MAIN, "shop")] == who(container="")
            assert [Owner.session(MAIN, "s1")] == who(container="", function="g")
            assert [] == who(container="ta-unknown")
            assert [] == who(container="", app="blog")

    virtually(story())
