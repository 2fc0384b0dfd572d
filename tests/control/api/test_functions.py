"""A function's numbers and scaling, as code asks for them over the API."""

import pytest

from homeport.contract.api.functions import FunctionQuery, Scaling
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import CallMethod, FunctionSpec, Parameter
from homeport.contract.scope import MAIN
from homeport.contract.variants import Options
from homeport.control.api.functions import Functions
from homeport.control.deploys.scaling import Scaler
from homeport.control.deploys.variants import Variants
from homeport.state.scaling import Scalings
from tests.control.plane import Plane, function, manifest

CLASS = FunctionSpec(
    name="Scale.*",
    module="script",
    qualname="Scale",
    is_class=True,
    calls=(CallMethod(tag="Scale.times", attribute="times"),),
    parameters=(Parameter(name="size", type="int", required=False, default=1),),
)


@pytest.fixture
async def functions(tmp_path):
    plane = Plane(tmp_path)
    async with plane:
        await plane.deploy(manifest(function("f"), CLASS))
        scaler = Scaler(plane.parts, Scalings(plane.database))
        variants = Variants(plane.parts, plane.mounts)
        yield Functions(plane.parts, scaler, variants)
        await variants.close()


async def test_a_function_and_a_class_are_found_by_their_tags(functions):
    query = FunctionQuery()
    one = await functions.one(MAIN, "shop", "f", query)
    method = await functions.one(MAIN, "shop", "Scale.times", query)
    whole = await functions.one(MAIN, "shop", "Scale.*", FunctionQuery(parameters="size=7"))

    assert one.url
    assert one.local_url.startswith("http://127.0.0.1:")
    assert ("Scale.times", "", "Scale.times") == (method.tag, method.url, whole.tag)
    for app, tag, session in (("shop", "g", ""), ("other", "f", ""), ("shop", "f", "nobody")):
        with pytest.raises(NotFound):
            await functions.one(MAIN, app, tag, FunctionQuery(session=session))
    with pytest.raises(BadRequest, match="size"):
        await functions.one(MAIN, "shop", "Scale.*", FunctionQuery(parameters="size=x"))


async def test_a_scaling_replaces_what_it_names_and_has_bounds(functions):
    query = FunctionQuery()
    await functions.scale(MAIN, "shop", "f", query, Scaling(max_containers=5, buffer_containers=1))
    told = await functions.scale(MAIN, "shop", "f", query, Scaling(min_containers=2))

    assert (2, 5, 1) == (
        told.scaling.min_containers,
        told.scaling.max_containers,
        told.scaling.buffer_containers,
    )
    for wrong in (
        Scaling(min_containers=6),
        Scaling(min_containers=-1),
        Scaling(max_containers=0),
        Scaling(buffer_containers=-1),
        Scaling(scaledown_window=1.0),
    ):
        with pytest.raises(BadRequest):
            await functions.scale(MAIN, "shop", "f", query, wrong)
    assert told.scaling == (await functions.one(MAIN, "shop", "f", query)).scaling


async def test_a_variant_is_made_and_found_by_its_digest(functions):
    options = Options(max_containers=3)
    made = await functions.vary(MAIN, "shop", "Scale.times", FunctionQuery(), options)
    again = await functions.vary(MAIN, "shop", "Scale.*", FunctionQuery(), options)
    query = FunctionQuery(variant=options.digest)
    told = await functions.one(MAIN, "shop", "Scale.times", query)
    changed = await functions.scale(MAIN, "shop", "Scale.*", query, Scaling(min_containers=1))

    assert made == again
    assert f"Scale.*+{options.digest[:8]}" == made.function
    assert (3, 0, 1) == (
        told.scaling.max_containers,
        told.scaling.min_containers,
        changed.scaling.min_containers,
    )
    plain = await functions.one(MAIN, "shop", "Scale.times", FunctionQuery())
    assert (None, 0) == (plain.scaling.max_containers, plain.scaling.min_containers)
    with pytest.raises(NotFound):
        await functions.one(MAIN, "shop", "Scale.times", FunctionQuery(variant="0" * 32))
    with pytest.raises(NotFound):
        await functions.vary(MAIN, "shop", "f", FunctionQuery(), options)  # it has a URL
