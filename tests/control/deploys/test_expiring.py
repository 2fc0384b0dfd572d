"""Apps that stop by themselves."""

import asyncio
import contextlib

import pytest

from homeport.contract.scope import MAIN, Scope
from homeport.control.deploys.expiring import Expiring
from homeport.control.fleet.owner import Owner
from homeport.state.expiries import Expiries
from tests.control.deploys.test_rollout import F
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import until, virtually

DAY_S = 86400.0
STAGING = Scope(environment="staging")


def app(name, scope=MAIN):
    return Owner.app(scope, name)


class Deployer:
    """The part of a deployer that is used."""

    def __init__(self) -> None:
        self.stopped: list[Owner] = []
        self.changing: set[Owner] = set()

    def is_changing(self, app: Owner) -> bool:
        return app in self.changing

    async def in_turn(self, _kind: str, _app: Owner, work) -> None:
        await work

    async def stop_in_turn(self, app: Owner) -> None:
        if app not in self.stopped:
            self.stopped.append(app)


@contextlib.asynccontextmanager
async def looking(database, deployer, now):
    expiring = Expiring(Expiries(database), deployer, now=lambda: now[0])
    await expiring.expiries.load()
    expiring.open()
    try:
        yield expiring
    finally:
        await expiring.close()


async def test_an_app_stops_at_its_time_also_after_a_restart_of_the_server(database):
    deployer, now = Deployer(), [1000.0]
    async with looking(database, deployer, now) as expiring:
        await expiring.deployed(app("pr-17"), 7 * DAY_S)
        await expiring.deployed(app("pr-18"), 8 * DAY_S)
        await expiring.deployed(app("pr-17", STAGING), 9 * DAY_S)
        assert 1000.0 + 7 * DAY_S == expiring.expires_at(app("pr-17"))
    now[0] += 7 * DAY_S
    async with looking(database, deployer, now) as expiring:
        await until(lambda: expiring.expires_at(app("pr-17")) is None, "the end of pr-17")

        assert [app("pr-17")] == deployer.stopped
        assert expiring.expires_at(app("pr-18")) is not None
        assert 1000.0 + 9 * DAY_S == expiring.expires_at(app("pr-17", STAGING))


async def test_a_deploy_renews_and_never_takes_it_back(database):
    now = [0.0]
    async with looking(database, Deployer(), now) as expiring:
        await expiring.deployed(app("production"), None)
        await expiring.deployed(app("pr-17"), 7 * DAY_S)
        now[0] = DAY_S
        await expiring.deployed(app("pr-17"), None)
        renewed = expiring.expires_at(app("pr-17"))
        await expiring.deployed(app("pr-17"), 0)

        assert 8 * DAY_S == renewed
        assert (None, None) == (
            expiring.expires_at(app("pr-17")),
            expiring.expires_at(app("production")),
        )
    again = Expiries(database)
    await again.load()

    assert again.next_at() is None


async def test_an_app_that_is_being_deployed_is_not_stopped(database):
    deployer, now = Deployer(), [0.0]
    deployer.changing.add(app("pr-17"))
    async with looking(database, deployer, now) as expiring:
        await expiring.deployed(app("pr-17"), 60.0)
        await expiring.deployed(app("pr-18"), 60.0)
        now[0] = 61.0
        await expiring.deployed(app("pr-19"), 60.0)  # so that it looks
        await until(lambda: expiring.expires_at(app("pr-18")) is None, "the end of pr-18")

        assert [app("pr-18")] == deployer.stopped
        assert expiring.expires_at(app("pr-17")) is not None


async def test_an_app_that_was_stopped_before_is_forgotten(database):
    deployer, now = Deployer(), [0.0]
    deployer.stopped.append(app("pr-17"))
    async with looking(database, deployer, now) as expiring:
        await expiring.deployed(app("pr-17"), 60.0)
        now[0] = 61.0
        await expiring.deployed(app("other"), 60.0)
        await until(lambda: expiring.expires_at(app("pr-17")) is None, "the end")

    assert [app("pr-17")] == deployer.stopped


@pytest.mark.parametrize("pause_s", [0.0, 1.0])
def test_a_deploy_at_the_moment_of_the_expiry_serves_and_renews(tmp_path, pause_s):
    """The deploy comes just after the look; or it is done, and its renewal is still being written."""

    async def story():
        async with Plane(tmp_path, FakeNode(1.0)) as plane:
            now = [0.0]
            expiring = Expiring(Expiries(plane.database), plane.deployer, now=lambda: now[0])

            async def renew() -> None:
                await asyncio.sleep(pause_s)
                await expiring.deployed(app("shop"), 60.0)

            await plane.deploy(manifest(function("f")), then=renew)
            now[0] = 61.0
            expiring.open()
            try:
                if pause_s == 0.0:  # between the look and the stop
                    expiring._deployer = Late(plane, manifest(function("f"), script="v2.py"), renew)
                    await until(lambda: expiring._deployer.deploying, "the look")
                    await expiring._deployer.deploying
                else:
                    await plane.deploy(manifest(function("f"), script="v2.py"), then=renew)
            finally:
                await expiring.close()
            served = await plane.visit(F)

            assert 121.0 == expiring.expires_at(app("shop"))
            assert served.pool.revision == plane.parts.live.get(app("shop")).revision.id

    virtually(story())


class Late:
    """A deployer that begins a deploy just after it was asked whether there is one."""

    def __init__(self, plane: Plane, what, then) -> None:
        self.plane, self.what, self.then = plane, what, then
        self.deploying: asyncio.Task[object] | None = None

    def __getattr__(self, name):
        return getattr(self.plane.deployer, name)

    def is_changing(self, owner: Owner) -> bool:
        changing = self.plane.deployer.is_changing(owner)
        if self.deploying is None:
            self.deploying = asyncio.create_task(self.plane.deploy(self.what, then=self.then))
        return changing
