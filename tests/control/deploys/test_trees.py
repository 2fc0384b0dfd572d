"""The progress of an image's build says which function's image it is, and when it is built."""

from homeport.contract import output
from homeport.contract.api import events
from homeport.contract.scope import MAIN
from tests.control.plane import Plane, function, manifest
from tests.waiting import virtual


@virtual
async def test_a_build_is_told_by_its_steps_and_its_end(tmp_path):
    async with Plane(tmp_path) as plane:
        prepare = plane.node.prepare

        async def building(image, source, supplies, say):
            await prepare(image, source, supplies, say)
            if source.endswith(plane.rollout.trees.underway[-1].id) and not told:
                say(output.step(1, 2, "debian_slim"))
                say("debian_slim: Python 3.12")
                say(output.step(2, 2, "pip_install"))

        told: list[str] = []
        plane.node.prepare = building
        wanted = manifest(function("price"), function("total"))
        await plane.deployer.deploy(
            MAIN, "shop", wanted, tag="", strategy="rolling", say=told.append, drain_s=1.0
        )
        shown = [events.progress(text) for text in told]

    assert [
        ("image of `price`: step 1 of 2, debian_slim", "price", 1, 2),
        ("debian_slim: Python 3.12", "", 0, 0),
        ("image of `price`: step 2 of 2, pip_install", "price", 2, 2),
        ("image of `price`: built", "price", 0, 2),
    ] == [(each.text, each.image, each.step, each.steps) for each in shown[:4]]
    assert not [each for each in shown[4:] if each.steps]
