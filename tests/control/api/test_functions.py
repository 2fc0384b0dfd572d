"""A function's numbers and scaling, as code asks for them over the API."""

import pytest

from homeport.contract.api.functions import FunctionQuery, Scaling
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import CallMethod, FunctionSpec, Parameter
from homeport.control.api.functions import Functions
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
        yield Functions(plane.parts)


async def test_a_function_and_a_class_are_found_by_their_tags(functions):
    query = FunctionQuery()
    one = await functions.one("shop", "f", query)
    method = await functions.one("shop", "Scale.times", query)
    whole = await functions.one("shop", "Scale.*", FunctionQuery(parameters="size=7"))

    assert one.url
    assert ("Scale.times", "", "Scale.times") == (method.tag, method.url, whole.tag)
    for app, tag, session in (("shop", "g", ""), ("other", "f", ""), ("shop", "f", "nobody")):
        with pytest.raises(NotFound):
            await functions.one(app, tag, FunctionQuery(session=session))
    with pytest.raises(BadRequest, match="size"):
        await functions.one("shop", "Scale.*", FunctionQuery(parameters="size=x"))


async def test_a_scaling_replaces_what_it_names_and_has_bounds(functions):
    query = FunctionQuery()
    await functions.scale("shop", "f", query, Scaling(max_containers=5, buffer_containers=1))
    told = await functions.scale("shop", "f", query, Scaling(min_containers=2))

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
            await functions.scale("shop", "f", query, wrong)
    assert told.scaling == (await functions.one("shop", "f", query)).scaling
