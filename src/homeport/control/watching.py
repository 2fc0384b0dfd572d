"""Watches the database of a server: it ends if another server has taken it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from homeport.contract.errors import StorageError
from homeport.supervised import supervised

if TYPE_CHECKING:
    from homeport.state.database import Database

CLAIM_S = 3.0  # how often a server looks whether its database is still its own

log = logging.getLogger(__name__)


def watch_database(
    database: "Database", shutdown: Callable[[], None], opened: AsyncExitStack
) -> None:
    """End the server if another one has taken its database, which can happen while PostgreSQL restarts."""
    if not database.postgres:
        return

    async def watch() -> None:
        while True:
            await asyncio.sleep(CLAIM_S)
            try:
                await asyncio.to_thread(database.keep)
            except StorageError as error:
                if not database.taken:
                    continue  # it does not answer: each write fails with that reason
                log.error("this server ends: %s", error.message)  # noqa: TRY400 - nothing of ours failed
                shutdown()
                await asyncio.Event().wait()

    task = asyncio.create_task(supervised("watching the database", watch))
    opened.callback(task.cancel)
