"""Deploys, rollbacks and stops, also several at once: one wins, and the list of apps agrees with the URLs."""

import asyncio
import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from homeport.contract.errors import BadRequest, Failure, NotFound, StorageError
from homeport.contract.manifest import SourceFile
from homeport.contract.scope import MAIN
from homeport.control.deploys import versions
from homeport.control.fleet.owner import Owner
from homeport.state import urls
from homeport.state.database import Database
from tests import postgres
from tests.control.deploys.test_rollout import F, settled
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import virtually

SHOP = Owner.app(MAIN, "shop")


def version(number: int):
    return manifest(function("f"), function("g"), script=f"v{number}.py")


def test_a_stop_ends_a_deploy_that_is_under_way(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(5.0)) as plane:
            await plane.deploy(version(1))
            deploying = asyncio.create_task(plane.deploy(version(2)))
            await asyncio.sleep(1)
            ended = await plane.deployer.stop_app(MAIN, "shop")
            with pytest.raises(BadRequest, match="stopped meanwhile"):
                await deploying
            await settled(plane)
            await plane.check_whole()
            stopped = {} == plane.ingress.endpoints
            left = list(plane.node.containers)
            await plane.deploy(version(2))
            served = await plane.visit(F)

            assert ended >= 2
            assert stopped
            assert [] == left
            assert {served.pool.revision} == {c.order.pool.revision for c in plane.node.containers}
            assert served.pool.revision == plane.parts.live.get(SHOP).revision.id

    virtually(story())


def test_a_stop_ends_the_first_deploy_of_an_app(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(5.0)) as plane:
            deploying = asyncio.create_task(plane.deploy(version(1)))
            await asyncio.sleep(1)
            assert plane.deployer.knows(MAIN, "shop")
            await plane.deployer.stop_app(MAIN, "shop")
            await asyncio.wait([deploying])
            await settled(plane)
            await plane.check_whole()

            assert [] == await plane.store.apps()
            assert [] == await plane.store.revisions("shop")
            assert {} == plane.ingress.endpoints

    virtually(story())


@given(
    actions=st.lists(
        st.tuples(
            st.floats(0.0, 1.2),
            st.sampled_from(["deploy", "recreate", "rollback", "stop", "hang up"]),
        ),
        min_size=2,
        max_size=7,
    )
)
def test_the_list_of_apps_and_the_urls_agree_whatever_is_asked_for_at_once(
    tmp_path_factory, actions
):
    async def story():
        async with Plane(tmp_path_factory.mktemp("home"), FakeNode(0.3)) as plane:
            tasks = [asyncio.create_task(plane.deploy(version(0)))]
            for number, (wait_s, action) in enumerate(actions):
                await asyncio.sleep(wait_s)
                if action == "hang up":
                    tasks[-1].cancel()
                    continue
                work = {
                    "deploy": lambda n=number: plane.deploy(version(n % 3 + 1)),
                    "recreate": lambda n=number: plane.deploy(version(n % 3 + 1), "recreate"),
                    "rollback": plane.roll_back,
                    "stop": lambda: plane.deployer.stop_app(MAIN, "shop"),
                }[action]
                tasks.append(asyncio.create_task(work()))
            done = await asyncio.gather(*tasks, return_exceptions=True)
            while plane.deployer._changes:
                await asyncio.sleep(0.1)
            await settled(plane)
            await plane.check_whole()
            for endpoint in list(plane.ingress.endpoints):
                await plane.visit(endpoint)
            return done

    for result in virtually(story()):
        assert not isinstance(result, Exception) or isinstance(result, Failure), result


def test_a_caller_who_goes_away_does_not_end_a_deploy(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(1.0)) as plane:
            deploying = asyncio.create_task(plane.deploy(version(1)))
            await asyncio.sleep(0.5)
            deploying.cancel()
            await asyncio.sleep(2)

            assert 1 == (await plane.store.app("shop")).version
            assert (await plane.visit(F)).pool.app == "shop"

    virtually(story())


def test_a_stopped_app_can_be_rolled_back_and_its_earlier_versions_answer_again(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            for number in (1, 2):
                await plane.deploy(version(number))
            await plane.deployer.stop_app(MAIN, "shop")
            await settled(plane)
            deployed = await plane.roll_back()
            await asyncio.sleep(1)
            await plane.check_whole()

            assert "v2.py" == deployed.app.revision.manifest.script
            assert 3 == deployed.app.revision.version
            assert (await plane.visit("me--shop-f-v1")).pool.revision != deployed.app.revision.id
            with pytest.raises(NotFound):
                await plane.roll_back(version=17)

    virtually(story())


def test_a_version_that_is_forgotten_has_no_pool_and_a_tree_of_no_container_goes(
    tmp_path, monkeypatch
):
    async def story():
        async with Plane(tmp_path) as plane:
            for number in range(1, 5):
                await plane.deploy(version(number))
                await settled(plane)
            kept = {revision.id for revision in await plane.store.revisions("shop")}

            assert 2 == len(kept)
            assert kept == {pool.key.revision for pool in plane.pools if not pool.retired}
            for name in ("rv-runs", "rv-half-written"):
                (plane.rollout.trees.directory / name).mkdir()
        async with Plane(tmp_path) as plane:
            await plane.deployer.restore(["rv-runs"])

            trees = {path.name for path in plane.rollout.trees.directory.iterdir()}
            assert {"rv-runs", *kept} == trees

    monkeypatch.setattr(versions, "KEPT", 2)
    virtually(story())


async def _uploaded(plane: Plane) -> str:
    """Upload a file of one byte, and return its hash."""

    async def content():
        yield b"x"

    sha256 = hashlib.sha256(b"x").hexdigest()
    await plane.blobs.put(sha256, content())
    return sha256


@pytest.mark.parametrize(
    ("options", "files", "error"),
    [
        ({"gpu": ("L4",)}, (), "asks for a GPU"),
        ({"memory_mib": (5000, None)}, (), "asks for 5000 MiB of memory"),
        ({"block_network": True}, (), "has `block_network=True`"),
        ({"restrict_modal_access": True}, (), "has `restrict_modal_access=True`"),
        ({}, ("/opt/x",), "`/opt/x` lies outside /root"),
        ({}, ("/proc/x",), "nothing can be added at `/proc/x`"),
    ],
)
def test_a_deploy_that_no_node_can_run_is_refused_before_anything_is_touched(
    tmp_path, options, files, error
):
    async def story():
        async with Plane(tmp_path) as plane:
            wanted = manifest(function("f", **options))
            added = [
                SourceFile(path=path, sha256=await _uploaded(plane), size_bytes=1) for path in files
            ]
            wanted = dataclasses.replace(wanted, files=tuple(added))
            before = plane.calls()
            with pytest.raises(Failure, match=error):
                await plane.deploy(wanted)

            assert [("forget_unserved", "")] == [c for c in plane.calls() if c not in before]
            assert [] == await plane.store.apps()

    virtually(story())


def test_the_end_of_the_server_undoes_what_is_under_way(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(5.0)) as plane:
            await plane.deploy(version(1))
            deploying = asyncio.create_task(plane.deploy(version(2)))
            await asyncio.sleep(1)
            await plane.deployer.close()
            await plane.check_whole()
            with pytest.raises(BadRequest, match="the server is ending"):
                await deploying

            assert 1 == (await plane.store.app("shop")).version
            assert 1 == len(await plane.store.revisions("shop"))

    virtually(story())


class TestRestoring:
    """After a restart."""

    @staticmethod
    async def deployed(tmp_path, *apps: str) -> None:
        async with Plane(tmp_path) as plane:
            for app in apps:
                for number in (1, 2):
                    wanted = manifest(function("f"), app=app, script=f"v{number}.py")
                    await plane.deploy(wanted)

    def spoil(self, tmp_path, sql: str) -> None:
        database = Database(urls.of(postgres.setting(tmp_path), tmp_path))
        with database.writing() as connection:
            connection.execute(text(sql.replace(":", r"\:")))
        database.dispose()

    @pytest.mark.parametrize(
        "value",
        ["{bad", "[]", "{}", '{"app_name": 3, "functions": 5}', "null", '{"app_name": "x"}'],
    )
    def test_one_unreadable_old_row_is_left_out(self, tmp_path, value):
        async def story():
            await self.deployed(tmp_path, "shop", "blog")
            self.spoil(tmp_path, f"update revisions set manifest='{value}' where version=1")
            async with Plane(tmp_path) as plane:
                await plane.deployer.restore([])

                assert {} == plane.deployer.broken
                assert (await plane.visit("me--shop-f")).pool.app == "shop"
                assert (await plane.visit("me--blog-f")).pool.app == "blog"
                await plane.deploy(manifest(function("f"), script="new.py"))
                assert 3 == (await plane.store.app("shop")).version

        virtually(story())

    def test_an_app_that_cannot_be_restored_is_named_and_tried_again(self, tmp_path):
        async def story():
            await self.deployed(tmp_path, "shop", "blog")
            async with Plane(tmp_path) as plane:
                broken = []

                async def fault(call, what, when):
                    if (call, what) == ("route", "me--shop-f") and not broken:
                        raise ValueError("an accident")

                plane.ingress.fault = fault
                await plane.deployer.restore([])

                assert {SHOP: "ValueError: an accident"} == plane.deployer.broken
                assert (await plane.visit("me--blog-f")).pool.app == "blog"
                broken.append("not any more")
                await asyncio.sleep(6)
                assert {} == plane.deployer.broken
                assert (await plane.visit("me--shop-f")).pool.app == "shop"

        virtually(story())

    @pytest.mark.parametrize("is_lost", [True, False])
    def test_a_local_port_is_saved_at_a_restart_if_it_is_another_one(self, tmp_path, is_lost):
        async def story():
            await self.deployed(tmp_path, "shop")
            if is_lost:
                self.spoil(tmp_path, "update endpoints set local_port=0")
            async with Plane(tmp_path) as plane:
                before = plane.calls()
                await plane.deployer.restore([])
                writes = [
                    call for call, _ in plane.calls()[len(before) :] if call == "serve_revision"
                ]
                live = plane.parts.live.get(SHOP).endpoints

                assert writes == (["serve_revision"] if is_lost else [])
                assert await plane.store.local_ports() == {
                    name: endpoint.endpoint.local_port for name, endpoint in live.items()
                }
                assert 0 not in (await plane.store.local_ports()).values()

        virtually(story())

    def test_an_app_whose_row_is_damaged_can_be_deployed_or_stopped(self, tmp_path):
        async def story():
            await self.deployed(tmp_path, "shop", "blog")
            self.spoil(tmp_path, "update revisions set manifest='{bad' where version=2")
            async with Plane(tmp_path) as plane:
                await plane.deployer.restore([])

                assert {SHOP, Owner.app(MAIN, "blog")} == set(plane.deployer.broken)
                assert "cannot be read" in plane.deployer.broken[SHOP]
                with pytest.raises(StorageError):
                    await plane.roll_back(version=2)
                await plane.deploy(manifest(function("f"), script="new.py"))
                assert (await plane.visit("me--shop-f")).pool.app == "shop"
                await plane.deployer.stop_app(MAIN, "blog")
                assert {} == plane.deployer.broken
                await asyncio.sleep(600)
                assert ["shop"] == [app.name for app in plane.parts.live.all()]

        virtually(story())

    def test_containers_of_an_app_that_is_not_restored_yet_wait_for_it(self, tmp_path):
        async def story():
            node = FakeNode(0.1)
            async with Plane(tmp_path, node) as plane:
                await plane.deploy(manifest(function("f")))
                before = await plane.visit(F)
            plane = Plane(tmp_path, node)
            plane.reconciler.spares = lambda app: app in plane.deployer.broken
            broken = []

            async def fault(call, what, when):
                if (call, what) == ("route", F) and not broken:
                    raise ValueError("an accident")

            plane.ingress.fault = fault
            await plane.deployer.restore([])
            await plane.reconciler.adopt()
            async with plane:
                await asyncio.sleep(2)
                assert {SHOP} == set(plane.deployer.broken)
                broken.append("not any more")
                await asyncio.sleep(5)
                after = await plane.visit(F)

                assert before.id == after.id
                assert 1 == len(node.started)

        virtually(story())

    def test_a_slow_app_holds_up_the_start_for_a_while_only(self, tmp_path):
        async def story():
            await self.deployed(tmp_path, "shop")
            async with Plane(tmp_path) as plane:
                go = asyncio.Event()

                async def fault(call, what, when):
                    if (call, when) == ("prepare", "before"):
                        await go.wait()

                plane.node.fault = fault
                await plane.deployer.restore([])

                assert {SHOP: "it is being restored"} == plane.deployer.broken
                go.set()
                await asyncio.sleep(1)
                assert {} == plane.deployer.broken

        virtually(story())
