"""When apps stop by themselves, as rows."""

import pytest

from homeport.state.expiries import Expiries, Expiry
from homeport.state.scope import MAIN, Scope

SHOP, BLOG = (MAIN, "shop"), (MAIN, "blog")
STAGED = (Scope(environment="staging"), "shop")


@pytest.fixture
async def expiries(database):
    return Expiries(database)


async def loaded(database) -> Expiries:
    """Return what a server that starts now reads."""
    again = Expiries(database)
    await again.load()
    return again


async def test_a_restart_keeps_the_expiries_of_each_environment_apart(expiries, database):
    await expiries.deployed(SHOP, 60.0, now=0.0)
    await expiries.deployed(STAGED, 90.0, now=0.5)
    for kept in (expiries, await loaded(database)):
        assert Expiry(seconds=60.0, expires_at=60.0) == kept.of(SHOP)
        assert Expiry(seconds=90.0, expires_at=90.5) == kept.of(STAGED)
        assert kept.of(BLOG) is None


async def test_apps_are_due_in_the_order_of_their_times_and_not_before(expiries):
    await expiries.deployed(SHOP, 60.0, now=0.0)
    await expiries.deployed(BLOG, 30.0, now=0.0)

    assert ([], 30.0) == (expiries.due(29.9), expiries.next_at())
    assert [BLOG] == expiries.due(30.0)
    assert [BLOG, SHOP] == expiries.due(61.0)


async def test_a_deploy_that_says_nothing_renews_an_expiry_and_makes_none(expiries, database):
    await expiries.deployed(SHOP, 60.0, now=0.0)
    await expiries.deployed(SHOP, None, now=50.0)
    await expiries.deployed(BLOG, None, now=50.0)
    for kept in (expiries, await loaded(database)):
        assert Expiry(seconds=60.0, expires_at=110.0) == kept.of(SHOP)
        assert kept.of(BLOG) is None


async def test_an_app_without_an_expiry_lives_on_also_after_a_restart(expiries, database):
    for app in (SHOP, BLOG, STAGED):
        await expiries.deployed(app, 60.0, now=0.0)
    await expiries.deployed(SHOP, 0, now=1.0)
    await expiries.forget(BLOG)
    await expiries.forget(BLOG)
    for kept in (expiries, await loaded(database)):
        assert [STAGED] == kept.due(1000.0)
        assert 60.0 == kept.next_at()


async def test_the_expiries_of_a_deleted_environment_are_dropped(expiries):
    for app in (SHOP, STAGED):
        await expiries.deployed(app, 60.0, now=0.0)
    expiries.drop(STAGED[0])

    assert [SHOP] == expiries.due(1000.0)
    expiries.drop(MAIN)
    assert expiries.next_at() is None
