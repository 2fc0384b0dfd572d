"""Variants of functions: made when they are called, shared by equal options, bounded, and gone when they are idle."""

import asyncio
import contextlib
import dataclasses

import pytest

from homeport.contract.calls import Retries, endpoint_id
from homeport.contract.capacity import Capacity
from homeport.contract.errors import BadRequest, Failure, NotFound, ScriptError, TooMany
from homeport.contract.manifest import CallMethod, FunctionSpec, Parameter, SecretRef
from homeport.contract.scope import MAIN
from homeport.contract.variants import Options
from homeport.control.deploys.variants import Variants, Wanted
from homeport.control.fleet.member import Stage
from tests.control.plane import KEY, Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import until, virtual

F = FunctionSpec(
    name="f",
    module="script",
    qualname="f",
    calls=(CallMethod(tag="f", attribute="f"),),
    min_containers=1,
    scaledown_window_s=2.0,
)
CLASS = FunctionSpec(
    name="Scale.*",
    module="script",
    qualname="Scale",
    is_class=True,
    calls=(
        CallMethod(tag="Scale.times", attribute="times"),
        CallMethod(tag="Scale.plus", attribute="plus"),
    ),
    parameters=(Parameter(name="size", type="int", required=False, default=1),),
    scaledown_window_s=2.0,
)
QUICK = Options(timeout_s=5.0, retries=Retries(max_retries=1))


@contextlib.asynccontextmanager
async def planned(tmp_path, *functions: FunctionSpec, most: int = 40):
    plane = Plane(tmp_path, FakeNode(0.2, capacity=Capacity(cores=64, memory_mib=4096)))
    plane.parts = dataclasses.replace(
        plane.parts, settings=dataclasses.replace(plane.settings, max_parameter_pools=most)
    )
    async with plane:
        await plane.deploy(manifest(*functions))
        plane.variants = Variants(plane.parts, plane.mounts)
        plane.deployer.settled = plane.variants.tidy
        yield plane
        await plane.variants.close()


def wanted(options: Options = QUICK, tag: str = "f", **given) -> Wanted:
    return Wanted(app="shop", tag=tag, options=options, within=MAIN, key=KEY, **given)


async def gone(plane: Plane, endpoint: str) -> None:
    await until(lambda: endpoint not in plane.ingress.endpoints, f"{endpoint} goes")


@virtual
async def test_a_variant_has_containers_of_its_own(tmp_path):
    async with planned(tmp_path, F) as plane:
        made = await plane.variants.make(wanted())
        plain = await plane.visit(endpoint_id("shop", "f", key=KEY))
        order = await plane.visit(made.id)

        assert made.id == endpoint_id("shop", "f", key=KEY, variant=QUICK.digest)
        assert ("f", f"f+{QUICK.digest[:8]}") == (plain.pool.function, order.pool.function)
        assert (300.0, 5.0) == (plain.function.timeout_s, order.function.timeout_s)
        assert (5.0, "1.1000.2000.60000") == (made.timeout_s, made.retries)
        assert made.retries == plane.variants.retries_of(made.id)
        assert None is plane.variants.retries_of(endpoint_id("shop", "f", key=KEY))
        assert None is plane.variants.retries_of("call-nobody")


@virtual
async def test_equal_options_are_one_variant_also_at_once(tmp_path):
    async with planned(tmp_path, F) as plane:
        first, second = await asyncio.gather(
            plane.variants.make(wanted()), plane.variants.make(wanted())
        )
        third = await plane.variants.make(wanted(dataclasses.replace(QUICK)))

        assert first is second is third
        assert 2 == len([*plane.pools])


@virtual
async def test_all_methods_and_parameters_of_a_class_have_it(tmp_path):
    async with planned(tmp_path, CLASS) as plane:
        times = await plane.variants.make(wanted(tag="Scale.times"))
        plus = await plane.variants.make(wanted(tag="Scale.plus"))
        big = dataclasses.replace(times.pool, parameters="size=7")

        assert (times.pool, "times", "plus") == (plus.pool, times.method, plus.method)
        container = await plane.ingress.visit(big)
        (order,) = (order for order in plane.node.started if order.id == container)
        assert ({"size": 7}, 5.0) == (order.parameters, order.function.timeout_s)


@virtual
async def test_an_idle_variant_goes_and_comes_again(tmp_path):
    async with planned(tmp_path, F) as plane:
        made = await plane.variants.make(wanted())
        await plane.visit(made.id)
        await gone(plane, made.id)

        assert ["f"] == [pool.key.function for pool in plane.pools]
        again = await plane.variants.make(wanted())
        await plane.visit(again.id)


@virtual
async def test_a_variant_has_no_container_without_demand(tmp_path):
    async with planned(tmp_path, F) as plane:
        made = await plane.variants.make(wanted())
        pool = plane.pools.get(made.pool)

        assert (0, 1) == (
            pool.least,
            plane.pools.get(
                plane.parts.endpoints.endpoint(endpoint_id("shop", "f", key=KEY)).pool
            ).least,
        )


@virtual
async def test_a_deploy_lets_the_next_call_make_it_of_the_new_version(tmp_path):
    async with planned(tmp_path, F) as plane:
        first = await plane.variants.make(wanted())
        await plane.visit(first.id)
        await plane.deploy(manifest(dataclasses.replace(F, timeout_s=100.0)))
        await gone(plane, first.id)
        second = await plane.variants.make(wanted())
        order = await plane.visit(second.id)

        assert first.id == second.id
        assert first.pool.revision != second.pool.revision == order.pool.revision
        await until(lambda: plane.pools.get(first.pool) is None, "the old variant goes")
        assert second.id in plane.ingress.endpoints


@virtual
async def test_an_earlier_version_has_variants_too(tmp_path):
    async with planned(tmp_path, F) as plane:
        await plane.deploy(manifest(dataclasses.replace(F, timeout_s=100.0)))
        made = await plane.variants.make(wanted(version=1))
        order = await plane.visit(made.id)

        assert (5.0, 1) == (order.function.timeout_s, int(plane.pools.get(made.pool).demoted))


@virtual
async def test_a_stop_of_the_app_ends_its_variants(tmp_path):
    async with planned(tmp_path, F) as plane:
        made = await plane.variants.make(wanted())
        await plane.visit(made.id)
        await plane.deployer.stop_app(MAIN, "shop")
        await gone(plane, made.id)

        with pytest.raises(NotFound, match="no deployed app `shop`"):
            await plane.variants.make(wanted())


@virtual
async def test_there_are_not_any_number_of_them_and_the_idle_one_goes_first(tmp_path):
    async with planned(tmp_path, F, most=2) as plane:
        busy = await plane.variants.make(wanted())
        held = asyncio.Event()
        visit = asyncio.create_task(plane.ingress.visit(busy.id, until=held))
        await until(lambda: plane.pools.get(busy.pool).load.running, "the visit is inside")
        idle = await plane.variants.make(wanted(Options(timeout_s=6.0)))
        await plane.variants.make(wanted(Options(timeout_s=7.0)))
        await gone(plane, idle.id)

        assert busy.id in plane.ingress.endpoints
        others = [await plane.variants.make(wanted(Options(timeout_s=8.0)))]
        second = asyncio.create_task(plane.ingress.visit(others[0].id, until=held))
        await until(lambda: plane.pools.get(others[0].pool).load.running, "it is inside, too")
        with pytest.raises(TooMany, match="2 variants of `f` are in use"):
            await plane.variants.make(wanted(Options(timeout_s=9.0)))
        held.set()
        await asyncio.gather(visit, second)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"tag": "g"}, NotFound, "no deployed app `shop` has a function `g`"),
        ({"scope": "nobody"}, NotFound, "has a function `f`"),
        ({"version": 7}, NotFound, "has a function `f`"),
        ({"options": Options(memory_mib=(10**7, None))}, ScriptError, "memory"),
        ({"options": Options(gpu=("H100",))}, ScriptError, "H100"),
        ({"options": Options(timeout_s=1e9)}, Failure, "timeout"),
        ({"options": Options(max_containers=0)}, Failure, "max_containers"),
        ({"options": Options(max_inputs=2, target_inputs=3)}, BadRequest, "target_inputs"),
        ({"options": Options(secrets=(SecretRef(name="nobody"),))}, Failure, "no secret `nobody`"),
    ],
)
@virtual
async def test_a_variant_that_cannot_be_is_refused_and_leaves_nothing(tmp_path, given, error, text):
    async with planned(tmp_path, F) as plane:
        with pytest.raises(error, match=text):
            await plane.variants.make(wanted(**given))

        assert ["f"] == [pool.key.function for pool in plane.pools]
        assert [] == [name for name in plane.ingress.endpoints if name not in _own(plane)]


def _own(plane: Plane) -> set[str]:
    return {endpoint_id("shop", "f", key=KEY), endpoint_id("shop", "f", key=KEY, version=1)}


@virtual
async def test_a_web_function_has_none(tmp_path):
    async with planned(tmp_path, function("web")) as plane:
        with pytest.raises(NotFound):
            await plane.variants.make(wanted(tag="web"))


@virtual
async def test_a_container_of_an_earlier_server_finishes_and_no_more_start(tmp_path):
    async with planned(tmp_path, F) as plane:
        made = await plane.variants.make(wanted())
        order = await plane.visit(made.id)
        plane.node.hold(order.id, 1)  # an idle one would be ended at once
        pool = plane.pools.get(made.pool)
        for member in [*pool.members]:
            plane.pools.discharge(member)
        plane.pools._pools.pop(made.pool)  # as after a restart, which has no variants
        await until(lambda: plane.pools.get(made.pool) is not None, "the container is adopted")
        orphan = plane.pools.get(made.pool)

        assert (True, 0) == (orphan.orphan, orphan.bounds.max_containers)
        await plane.variants.make(wanted())
        assert not plane.pools.get(made.pool).orphan
        assert order.id in plane.pools.get(made.pool).members
        plane.node.hold(order.id, 0)
        await plane.visit(made.id)
        assert Stage.READY in {m.stage for m in plane.pools.get(made.pool).members.values()}
