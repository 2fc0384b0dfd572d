"""A canary on the dashboard: how it does, and what decides."""

import pytest

from homeport.contract.api.deploys import Canary
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN
from tests.control.plane import function, manifest
from tests.dashboard.served import ORIGIN, dashboard

WRITE = (Permission.READ, Permission.DEPLOY)


@pytest.fixture
async def served(home):
    async with dashboard(home) as served:
        for number, canary in ((1, None), (2, Canary(percent=12.5))):
            await served.plane.deployer.deploy(
                MAIN, "shop", manifest(function("price"), script=f"v{number}.py"), tag="",
                strategy="rolling", say=lambda _text: None, canary=canary,
            )  # fmt: skip
        yield served


async def test_the_pages_show_it(served):
    async with served.visitor(await served.token(scopes=WRITE)) as visitor:
        app = await visitor.get("/app", params={"name": "shop"})
        deploys = await visitor.get("/deploys")

    assert 200 == app.status_code == deploys.status_code
    assert "v2 gets 12.5 % of the requests beside v1" in app.text
    assert "canary, running" in app.text
    assert "v2: requests" in app.text
    assert "v2 gets 12.5 %" in deploys.text


@pytest.mark.parametrize(("act", "version"), [("promote", 2), ("rollback", 1)])
async def test_a_canary_is_promoted_or_rolled_back_on_the_dashboard(served, act, version):
    async with served.visitor(await served.token(scopes=WRITE), Origin=ORIGIN) as visitor:
        answer = await visitor.post(f"/app/{act}", data={"name": "shop"})
        page = await visitor.get("/app", params={"name": "shop"})

    assert answer.status_code in (200, 303)
    (app,) = served.plane.parts.live.of(MAIN)
    assert version == app.revision.version
    assert "of the requests beside" not in page.text
    assert ("canary, rolled back" in page.text) is (act == "rollback")
