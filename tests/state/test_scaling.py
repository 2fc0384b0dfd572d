"""What `update_autoscaler` has set, in a real database."""

import asyncio

import pytest

from homeport.contract.api.functions import Scaling
from homeport.contract.errors import TooMany
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.state import scaling as module
from homeport.state import schema, urls
from homeport.state.database import Database
from homeport.state.scaling import ScalingRow, Scalings

F = ScalingRow(pool=PoolKey("shop", "f", "rv-1"), scaling=Scaling(min_containers=2))


@pytest.fixture
async def scalings(database_setting, tmp_path):
    database = Database(urls.of(database_setting, tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    yield Scalings(database)
    await database.close()


async def test_the_last_settings_of_each_pool_are_kept(scalings):
    small = ScalingRow(pool=PoolKey("shop", "f", "rv-1", "size=1"), scaling=Scaling())
    later = ScalingRow(pool=F.pool, scaling=Scaling(min_containers=3, scaledown_window=2.5))
    for row in (F, small, later):
        await scalings.save(MAIN, row)

    found = sorted(await scalings.of(MAIN, "shop", "rv-1"), key=lambda row: row.pool)
    assert [later, small] == found
    assert [] == await scalings.of(MAIN, "shop", "rv-2")


async def test_scalings_of_an_earlier_version_go(scalings):
    fresh = ScalingRow(pool=PoolKey("shop", "g", "rv-2"), scaling=Scaling(max_containers=1))
    await scalings.save(MAIN, F)
    await scalings.save(MAIN, fresh)

    assert [[], [fresh]] == [await scalings.of(MAIN, "shop", name) for name in ("rv-1", "rv-2")]


async def test_there_are_not_any_number_of_them(scalings, monkeypatch):
    monkeypatch.setattr(module, "MOST", 1)
    await scalings.save(MAIN, F)
    await scalings.save(MAIN, F)
    with pytest.raises(TooMany):
        await scalings.save(MAIN, ScalingRow(pool=PoolKey("shop", "g", "rv-1"), scaling=Scaling()))
