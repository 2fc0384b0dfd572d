"""Sessions of `serve` and `run`: the newest save serves, and the command hears of its containers and requests."""

import asyncio
import dataclasses

import pytest

from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.scope import MAIN
from homeport.contract.traffic import RequestRecord
from homeport.control.deploys.sessions import BACKLOG
from homeport.control.fleet.owner import Owner
from tests.control.deploys.test_rollout import settled
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import virtually

SESSION = Owner.session(MAIN, "s1")


def version(number: int):
    return manifest(function("f"), function("g"), script=f"v{number}.py")


async def serve(plane: Plane):
    return await plane.deployer.sessions.serve(MAIN, "s1", version(0), lambda _text: None)


def test_the_version_that_was_saved_last_is_what_a_session_serves(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(0.3)) as plane:
            await serve(plane)
            reloads = [
                asyncio.create_task(plane.deployer.sessions.reload(MAIN, "s1", version(n)))
                for n in range(1, 5)
            ]
            results = await asyncio.gather(*reloads, return_exceptions=True)
            serving = plane.parts.live.get(SESSION).revision.manifest.script
            await plane.deployer.stop(SESSION)
            with pytest.raises(NotFound):
                await plane.deployer.sessions.reload(MAIN, "s1", version(9))
            await settled(plane)

            assert "v4.py" == serving
            assert [True] * 3 + [False] == [isinstance(r, BadRequest) for r in results]
            assert {} == plane.ingress.endpoints
            assert not plane.deployer.busy

    virtually(story())


def test_a_session_starts_its_containers_before_anybody_asks_and_is_told_if_they_fail(tmp_path):
    async def story(fails: bool):
        node = FakeNode(0.1, fails=lambda _order: fails)
        async with Plane(tmp_path, node) as plane:
            app = await serve(plane)
            await asyncio.sleep(1)
            events = [app.events.get_nowait() for _ in range(app.events.qsize())]

            assert node.started
            return [event.error.message for event in events if event.event == "failed"]

    assert [] == virtually(story(fails=False))
    assert ["no fuel"] == virtually(story(fails=True))


def test_a_session_is_told_of_its_requests_and_of_how_many_it_was_too_slow_for(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            app, show = await serve(plane), plane.deployer.sessions._show
            endpoint = next(iter(app.endpoints))
            record = RequestRecord(
                endpoint=endpoint, method="GET", path="/", status=200, duration_ms=1
            )
            for _ in range(BACKLOG + 10):
                show(record)
            events = [app.events.get_nowait() for _ in range(app.events.qsize())]
            show(record)
            last = app.events.get_nowait()
            show(dataclasses.replace(record, endpoint="somebody-elses"))

            assert BACKLOG + 1 == len([event for event in events if event.event == "request"])
            assert (9, "/") == (last.untold, last.request.path)
            assert app.events.empty()

    virtually(story())
