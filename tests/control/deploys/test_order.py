"""The order of a rollout's steps, as the node, the ingress and the store see them."""

import pytest

from homeport.contract.errors import PortTaken
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import virtually

FIRST = manifest(function("f"), function("gone"))
SECOND = manifest(function("f", timeout_s=5.0))


def story(tmp_path, strategy: str) -> list[tuple[str, str]]:
    """Replace a version by the next one; return each step of it, when it has taken effect."""
    seen: list[tuple[str, str]] = []

    async def tell() -> None:
        async with Plane(tmp_path, FakeNode(0.5)) as plane:
            await plane.deploy(FIRST)

            def note(name, what, when) -> None:
                if when == "after":
                    seen.append((name, str(what)))

            async def note_later(name, what, when) -> None:
                note(name, what, when)

            plane.ingress.fault = plane.node.fault = note_later
            plane.stores.fault = note
            await plane.deploy(SECOND, strategy)

    virtually(tell())
    return seen


ROUTED, GONE = ("route", "me--shop-f"), ("unroute", "me--shop-gone")
ORDERS = {
    # Nobody is sent to a container that is not there, nor to one that ends; a kill after the first
    # visitor of the new version restores that version.
    "rolling": ["attach", "serve_revision", ROUTED, GONE, "drain", "detach"],
    # Requests wait for the new version before the old one ends; a kill restores the old one until the new one is proved.
    "recreate": [ROUTED, GONE, "drain", "detach", "attach", "serve_revision"],
}


@pytest.mark.parametrize("strategy", ORDERS)
def test_the_steps_have_an_order(tmp_path, strategy):
    seen = story(tmp_path, strategy)
    wanted = [step if isinstance(step, tuple) else (step, "") for step in ORDERS[strategy]]
    first = [
        next(n for n, (name, what) in enumerate(seen) if name == step and text in ("", what))
        for step, text in wanted
    ]

    assert sorted(first) == first, seen


def test_a_refused_claim_comes_before_files_and_builds(tmp_path):
    """Else an app whose port is taken would build an image first, for minutes."""

    async def tell() -> list[str]:
        async with Plane(tmp_path, FakeNode(0.5)) as plane:
            await plane.deploy(manifest(function("f", port=8000)))
            prepared: list[str] = []

            async def note(name, what, when) -> None:
                if name == "prepare":
                    prepared.append(str(what))

            plane.node.fault = note
            with pytest.raises(PortTaken):
                await plane.deploy(manifest(function("g", port=8000), app="other"))
            return prepared

    assert [] == virtually(tell())
