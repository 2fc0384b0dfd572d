"""The audit log says when a server began, and what has ended it."""

import asyncio
import signal
from contextlib import AsyncExitStack

from homeport.contract.api.audit import AuditQuery
from homeport.contract.starting import Ending
from homeport.control import lifetime
from homeport.control.main import Leaving
from homeport.state import schema, urls
from homeport.state.audit import Audit
from homeport.state.database import Database
from tests.waiting import virtual


async def test_a_server_leaves_a_row_of_its_start_and_of_what_has_ended_it(tmp_path):
    database = Database(urls.of("", tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    audit, leaving = Audit(database, days=90), Leaving(asyncio.Event())
    async with AsyncExitStack() as opened:
        await lifetime.begin(audit, lambda: leaving.why, opened)
        leaving.end(Ending.SIGNAL, signal.SIGTERM.name)
        leaving.end(Ending.DOWN, "shutdown")  # the first cause counts
        leaving.hand_over()
    rows = [(e.by, e.action, e.target) for e in await audit.last(AuditQuery(), None)]
    await database.close()

    assert ("server", "server start") == rows[0][:2]
    assert rows[0][2].startswith("homeport ")
    assert [("server", "server stop", "SIGTERM")] == rows[1:]


@virtual
async def test_a_database_that_does_not_answer_holds_up_no_end():
    class Silent:
        async def add(self, _entry) -> None:
            await asyncio.Event().wait()

    await lifetime.end(Silent(), "SIGTERM")

    assert lifetime.PATIENCE_S == asyncio.get_running_loop().time()
