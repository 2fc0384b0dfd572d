"""The order of a rollout's steps, as the node, the ingress and the store see them."""

import asyncio
import dataclasses
import hashlib
import os

import pytest

from homeport.contract.errors import IngressError, PortTaken, StartError
from homeport.contract.manifest import SourceFile
from homeport.contract.scope import MAIN
from homeport.control.fleet.owner import Owner
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


REFUSED = IngressError("HAProxy does not answer")


def started_if_refused(tmp_path, step: str, change) -> list[str]:
    """Carry out a change whose `step` at the ingress takes a second and fails; return the functions that were started.

    Meanwhile a request of another app runs, so the control loop does not sleep.
    """

    async def tell() -> list[str]:
        async with Plane(tmp_path, FakeNode(0.5)) as plane:
            await plane.deploy(manifest(function("busy"), app="other"))
            request = asyncio.create_task(plane.ingress.visit("me--other-busy", 10.0))
            before = len(plane.node.started)

            async def refuse_late(name, _what, _when) -> None:
                if name == step:
                    await asyncio.sleep(1)
                    raise REFUSED

            plane.ingress.fault = refuse_late
            with pytest.raises(IngressError):
                await change(plane)
            await request
            return [order.function.name for order in plane.node.started[before:]]

    return virtually(tell())


def test_a_deploy_that_gets_no_port_starts_nothing(tmp_path):
    """Else the user's code would run for a version that is refused, and take memory from those that serve."""

    async def deploy(plane: Plane) -> None:
        await plane.deploy(manifest(function("f", min_containers=1)))

    assert [] == started_if_refused(tmp_path, "free_port", deploy)


def test_a_session_whose_url_cannot_be_routed_starts_nothing(tmp_path):
    async def serve(plane: Plane) -> None:
        sessions = plane.deployer.sessions
        await sessions.serve(MAIN, "one", manifest(function("f")), lambda _text: None)

    assert [] == started_if_refused(tmp_path, "route", serve)


def test_uploaded_files_are_on_the_disk_before_a_version_that_needs_them_is_saved(
    tmp_path, monkeypatch
):
    """Else a power cut could leave a version that is the app's, and cannot be served."""
    content = b"x = 1\n"
    file = SourceFile(
        path="shop.py", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
    )
    synced: set[int] = set()

    def note_sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)

    async def content_of_file():
        yield content

    async def tell() -> list[bool]:
        were_synced: list[bool] = []
        async with Plane(tmp_path, FakeNode(0.5)) as plane:
            await plane.blobs.put(file.sha256, content_of_file())
            blob = plane.blobs._path(file.sha256)
            monkeypatch.setattr(os, "fsync", note_sync)

            def look(name, _what, when) -> None:
                if (name, when) == ("serve_revision", "before"):
                    were_synced.append(blob.stat().st_ino in synced)

            plane.stores.fault = look
            await plane.deploy(dataclasses.replace(FIRST, files=(file,)))
        return were_synced

    assert [True] == virtually(tell())


def test_a_url_is_off_the_list_of_apps_before_it_answers_no_more(tmp_path):
    async def tell() -> list[set[str]]:
        listed: list[set[str]] = []
        async with Plane(tmp_path, FakeNode(0.5)) as plane:
            await plane.deploy(FIRST)

            async def note(name, _what, when) -> None:
                if (name, when) == ("unroute", "before"):
                    listed.append(set(plane.parts.live.get(Owner.app(MAIN, "shop")).endpoints))

            plane.ingress.fault = note
            await plane.deploy(SECOND)
        return listed

    assert [{"me--shop-f"}] == virtually(tell())


def test_a_url_never_leads_to_a_pool_that_has_ended_also_when_a_program_is_brought_back(tmp_path):
    async def tell() -> list[bool]:
        serving: list[bool] = []
        node = FakeNode(0.5, fails=lambda order: order.function.name == "g")
        async with Plane(tmp_path, node) as plane:
            await plane.deploy(manifest(function("f", port=8000)))

            async def note(name, what, when) -> None:
                if (name, what, when) == ("route", "me--shop-f", "after"):
                    pool = plane.pools.get(plane.ingress.endpoints["me--shop-f"].pool)
                    serving.append(pool is not None and not pool.retired)

            plane.ingress.fault = note
            with pytest.raises(StartError):
                await plane.deploy(manifest(function("f", port=8000), function("g")))
        return serving

    assert [True, True] == virtually(tell())


def test_the_port_of_a_url_whose_route_is_refused_is_given_out_once(tmp_path):
    """The ingress takes a port back with its route; a rollout that kept it too would give it to two endpoints."""

    async def tell() -> list[int]:
        async with Plane(tmp_path, FakeNode(0.5)) as plane:
            await plane.deploy(FIRST)
            with plane.breaking("route", "me--shop-g", "after", REFUSED) as failed:
                with pytest.raises(IngressError):
                    await plane.deploy(manifest(function("f"), function("g")))
                assert ["route"] == failed
            await plane.deploy(manifest(function("a"), function("b"), app="other"))
            every = plane.ingress.endpoints.values()
            return [each.local_port for each in every if each.local_port]

    ports = virtually(tell())
    assert len(set(ports)) == len(ports) >= 4
