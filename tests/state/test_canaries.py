"""The rows of canaries, in a real database."""

import asyncio
import dataclasses

import pytest

from homeport.contract.manifest import FunctionSpec, Manifest
from homeport.contract.scope import MAIN, Scope
from homeport.state import schema, urls
from homeport.state.canaries import PROMOTED, ROLLED_BACK, Canaries, CanaryRow
from homeport.state.database import Database
from homeport.state.store import Stores

STAGING = Scope(environment="staging")
MANIFEST = Manifest(app_name="shop", functions=(FunctionSpec(name="f", module="m", qualname="f"),))
ROW = CanaryRow(
    app="shop", version=2, revision="rv-2", before=1, per_mille=100, began_at=10.0, ends_at=20.0
)


@pytest.fixture
async def database(database_setting, tmp_path):
    database = Database(urls.of(database_setting, tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    yield database
    await database.close()


async def loaded(database) -> Canaries:
    canaries = Canaries(database)
    await canaries.load()
    return canaries


async def test_another_server_finds_what_was_written_last(database):
    canaries = await loaded(database)
    ended = dataclasses.replace(ROW, state=ROLLED_BACK, ended_at=15.0, reason="bad", counts="{}")
    later = dataclasses.replace(ROW, version=3, revision="rv-3", before=1)
    await canaries.put(MAIN, ROW)
    await canaries.put(MAIN, ended)
    await canaries.put(MAIN, later)
    await canaries.put(STAGING, ROW)

    for rows in (canaries, await loaded(database)):
        assert {2: ended, 3: later} == rows.of((MAIN, "shop"))
        assert later == rows.last((MAIN, "shop"))
        assert ROW == rows.last((STAGING, "shop"))
        assert rows.last((MAIN, "other")) is None


async def test_a_row_can_be_removed_and_an_environment_dropped(database):
    canaries = await loaded(database)
    await canaries.put(MAIN, ROW)
    await canaries.put(STAGING, ROW)
    await canaries.remove(MAIN, ROW)
    await canaries.remove(MAIN, ROW)
    canaries.drop(STAGING)

    assert canaries.last((MAIN, "shop")) is None
    assert canaries.last((STAGING, "shop")) is None
    assert (await loaded(database)).last((MAIN, "shop")) is None


@pytest.mark.parametrize("state", ["running", ROLLED_BACK, PROMOTED])
async def test_the_revision_of_a_canary_is_kept_though_it_serves_nothing_and_goes_with_the_row(
    database, state
):
    stores, canaries = Stores(database), await loaded(database)
    store = stores.of(MAIN)
    for number in (1, 2, 3):
        revision = await store.add_revision(f"rv-{number}", "shop", MANIFEST, "", "")
        if number == 1:
            await store.serve_revision(revision, {})
    await canaries.put(MAIN, dataclasses.replace(ROW, state=state))
    await store.forget_unserved("shop")
    await stores.forget_unserved()
    left = [revision.id for revision in await store.revisions("shop")]
    later = await store.add_revision("rv-4", "shop", MANIFEST, "", "")
    await store.remove_revision("rv-2")

    assert ["rv-2", "rv-1"] == left
    assert 3 == later.version, "no number is used twice"
    assert (await loaded(database)).last((MAIN, "shop")) is None
