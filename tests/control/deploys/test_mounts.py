"""Volumes of apps: a deploy finds them by their names, and knows which apps have mounted them."""

import pytest

from homeport.contract.capacity import Capacity
from homeport.contract.errors import NotFound, ScriptError
from homeport.contract.manifest import VolumeMount
from homeport.contract.scope import MAIN
from homeport.control.fleet.owner import Owner
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode

MOUNT = VolumeMount(path="/data", name="models", create=True, where="shop.py:3")


def node(*, has_mounts: bool = True) -> FakeNode:
    return FakeNode(0.01, capacity=Capacity(cores=4, memory_mib=4096, has_mounts=has_mounts))


def app(*mounts: VolumeMount, **rest):
    return manifest(function("f", volumes=mounts), **rest)


async def test_containers_are_told_which_volume_a_name_meant(tmp_path):
    async with Plane(tmp_path, node()) as plane:
        deployed = await plane.deploy(app(MOUNT))
        (endpoint,) = deployed.app.endpoints
        order = await plane.visit(endpoint)

        key = plane.volumes.key(plane.volumes.find("models"))
        assert [key] == [mount.key for mount in order.function.volumes]
        assert (await plane.deploy(app(MOUNT))).skipped


async def test_without_isolation_a_deploy_says_that_there_are_no_volumes(tmp_path):
    async with Plane(tmp_path, node(has_mounts=False)) as plane:
        with pytest.raises(ScriptError, match="cannot be mounted at `/data`") as refused:
            await plane.deploy(app(MOUNT))

        assert "shop.py:3" == refused.value.where
        assert "HOMEPORT_ISOLATION" in refused.value.hint
        assert [] == plane.volumes.list()


async def test_a_volume_of_the_same_name_is_another_one(tmp_path):
    async with Plane(tmp_path, node()) as plane:
        await plane.deploy(app(MOUNT))
        first = plane.volumes.find("models")
        await plane.deployer.stop_app(MAIN, "shop")
        await plane.volumes.delete("models")
        await plane.volumes.create("models")
        with pytest.raises(NotFound, match="was deleted"):
            await plane.roll_back(version=1)
        again = await plane.deploy(app(MOUNT))

        assert not again.skipped
        assert first.id not in again.app.revision.manifest.functions[0].volumes[0].key


async def test_everybody_who_uses_a_volume_is_named(tmp_path):
    async with Plane(tmp_path, node()) as plane:
        await plane.deploy(app(MOUNT))
        await plane.deploy(app(app="blog"))
        key = plane.volumes.key(plane.volumes.find("models"))
        session = await plane.deployer.sessions.serve(
            MAIN, "s", app(MOUNT, app="draft"), lambda _text: None
        )

        assert ["draft", "shop"] == await plane.mounts.users(MAIN, key)
        await plane.deployer.stop(session.owner)
        await plane.deployer.stop_app(MAIN, "shop")
        pools = [pool for pool in plane.pools if pool.key.app in ("shop", "draft")]
        for pool in pools:
            plane.pools.remove(pool)
        assert [] == await plane.mounts.users(MAIN, key)


async def test_a_later_server_serves_the_app_with_the_same_volume(tmp_path):
    async with Plane(tmp_path, node()) as plane:
        await plane.deploy(app(MOUNT))
        row = plane.volumes.find("models")
    async with Plane(tmp_path, node()) as later:
        await later.volumes.load()
        await later.deployer.restore(set())
        (live,) = later.parts.live.all()

        assert row == later.volumes.find("models")
        assert later.volumes.key(row) == live.revision.manifest.functions[0].volumes[0].key


async def test_an_app_whose_volume_cannot_be_mounted_any_more_is_broken_and_says_why(tmp_path):
    async with Plane(tmp_path, node()) as plane:
        await plane.deploy(app(MOUNT))
    async with Plane(tmp_path, node(has_mounts=False)) as later:
        await later.volumes.load()
        await later.deployer.restore(set())

        assert "not isolated" in later.deployer.broken[Owner.app(MAIN, "shop")]
        assert ["shop"] == await later.mounts.users(
            MAIN, later.volumes.key(later.volumes.find("models"))
        )
