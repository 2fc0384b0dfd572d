"""`update_autoscaler`: what it sets holds until the next deploy, also after a restart of the server."""

import asyncio
import contextlib
import dataclasses

import pytest

from homeport.contract.api.functions import Scaling
from homeport.contract.errors import BadRequest
from homeport.contract.manifest import CallMethod, FunctionSpec, Parameter
from homeport.contract.traffic import PoolKey
from homeport.control.deploys.scaling import Scaler
from homeport.state.scaling import Scalings
from tests.control.plane import Plane, function, manifest
from tests.waiting import until, virtual

F = function("f")
CLASS = FunctionSpec(
    name="Scale.*",
    module="script",
    qualname="Scale",
    is_class=True,
    calls=(CallMethod(tag="Scale.times", attribute="times"),),
    parameters=(Parameter(name="size", type="int", required=False, default=1),),
    scaledown_window_s=2.0,
)


@contextlib.asynccontextmanager
async def planned(tmp_path):
    plane = Plane(tmp_path)
    plane.scaler = Scaler(plane.parts, Scalings(plane.database))
    plane.deployer.settled = plane.scaler.forget
    plane.deployer.after_restore(plane.scaler.restore)
    async with plane:
        yield plane


def pool(plane: Plane, name: str = "f", parameters: str = ""):
    revision = plane.parts.live.all()[0].revision.id
    return plane.pools.called_for(PoolKey("shop", name, revision, parameters))


@virtual
async def test_a_scaling_holds_over_a_restart_and_until_the_next_deploy(tmp_path):
    async with planned(tmp_path) as plane:
        await plane.deploy(manifest(F, CLASS))
        await plane.scaler.change(pool(plane), Scaling(max_containers=5))
        await plane.scaler.change(pool(plane), Scaling(min_containers=2))
        await plane.scaler.change(pool(plane, "Scale.*", "size=7"), Scaling(min_containers=1))
    async with planned(tmp_path) as plane:
        await plane.deployer.restore([])
        again, seven = pool(plane), pool(plane, "Scale.*", "size=7")

        assert (2, 5) == (again.bounds.min_containers, again.bounds.max_containers)
        assert (1, 0) == (seven.bounds.min_containers, pool(plane, "Scale.*").bounds.min_containers)
        await until(lambda: len(seven.members) == 1, "the container that it wants")
        await plane.deploy(manifest(dataclasses.replace(F, timeout_s=9.0), CLASS))
        fresh = pool(plane)
        assert (0, None) == (fresh.bounds.min_containers, fresh.bounds.max_containers)
    async with planned(tmp_path) as plane:
        await plane.deployer.restore([])
        assert 0 == pool(plane).bounds.min_containers


@virtual
async def test_parameters_have_settings_of_their_own_also_after_a_while(tmp_path):
    async with planned(tmp_path) as plane:
        await plane.deploy(manifest(CLASS))
        await plane.scaler.change(pool(plane, "Scale.*"), Scaling(max_containers=3))
        seven = pool(plane, "Scale.*", "size=7")
        assert None is seven.bounds.max_containers
        await plane.scaler.change(seven, Scaling(max_containers=4))
        await until(lambda: plane.pools.get(seven.key) is None, "nobody uses it, and it goes")

        assert 4 == pool(plane, "Scale.*", "size=7").bounds.max_containers


@virtual
async def test_a_scaling_that_cannot_be_changes_nothing(tmp_path):
    async with planned(tmp_path) as plane:
        await plane.deploy(manifest(F))
        await plane.scaler.change(pool(plane), Scaling(max_containers=2))
        for wrong in (Scaling(min_containers=3), Scaling(max_containers=0)):
            with pytest.raises(BadRequest):
                await plane.scaler.change(pool(plane), wrong)

        assert (0, 2) == (pool(plane).bounds.min_containers, pool(plane).bounds.max_containers)
        await plane.scaler.change(pool(plane), Scaling(min_containers=1))
        assert 1 == pool(plane).bounds.min_containers


@virtual
async def test_two_changes_at_once_are_both_kept(tmp_path):
    async with planned(tmp_path) as plane:
        await plane.deploy(manifest(F))
        changes = (Scaling(max_containers=5), Scaling(min_containers=2))
        await asyncio.gather(*(plane.scaler.change(pool(plane), change) for change in changes))
    async with planned(tmp_path) as plane:
        await plane.deployer.restore([])

        assert (2, 5) == (pool(plane).bounds.min_containers, pool(plane).bounds.max_containers)
