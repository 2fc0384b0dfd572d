"""What containers share, from the server's start to its end."""

from homeport.state import dicts
from homeport.state.scope import MAIN, Scope
from homeport.state.shared import Shared
from tests.waiting import until


async def test_objects_that_are_too_old_are_removed_at_the_start(database, monkeypatch):
    shared = Shared(database)
    await shared.open()
    await shared.dicts.of(MAIN).objects.create("d")
    await shared.dicts.of(MAIN).put("d", [(b"a", b"1")])
    await shared.close()
    now = dicts.time.time()
    monkeypatch.setattr(dicts.time, "time", lambda: now + 2 * dicts.KEPT_S)
    later = Shared(database)
    await later.open()

    def rows():
        from sqlalchemy import func, select

        from homeport.state import tables

        return database.read(
            lambda c: c.scalar(select(func.count()).select_from(tables.dict_items))
        )

    async def removed() -> bool:
        return not await rows()

    await until(removed, "the old rows to be removed")
    assert ["d"] == [row.name for row in later.dicts.of(MAIN).objects.list()]
    await later.close()


async def test_a_later_environment_of_the_same_name_has_none_of_the_names(database):
    shared, scope = Shared(database), Scope(environment="dev")
    await shared.open((MAIN, scope))
    for where in (MAIN, scope):
        await shared.dicts.of(where).objects.create("d")
        await shared.queues.of(where).objects.create("q")
    shared.forget(scope)
    await shared.close()

    for where, count in ((MAIN, 1), (scope, 0)):
        assert count == len(shared.dicts.of(where).objects.list())
        assert count == len(shared.queues.of(where).objects.list())
