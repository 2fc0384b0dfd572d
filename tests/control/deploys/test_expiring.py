"""Apps that stop by themselves."""

import contextlib

import pytest

from homeport.contract.errors import BadRequest
from homeport.contract.scope import MAIN, Scope
from homeport.control.deploys.expiring import Expiring
from homeport.control.fleet.owner import Owner
from homeport.settings import Settings
from homeport.state import schema, urls
from homeport.state.database import Database
from homeport.state.expiries import Expiries
from tests.waiting import until

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

    async def stop_deployed(self, app: Owner) -> int:
        if app in self.stopped:
            raise BadRequest("App is already stopped.")
        self.stopped.append(app)
        return 0


@pytest.fixture
async def database(database_setting, tmp_path):
    settings = Settings(home=tmp_path, database=database_setting)
    database = Database(urls.of(settings.database, settings.home))
    schema.prepare(database)
    yield database
    await database.close()


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
