"""Opens the dicts and queues, and removes entries that are too old."""

import asyncio

from homeport.contract.errors import StorageError
from homeport.state.database import Database
from homeport.state.dicts import Dicts
from homeport.state.queues import Queues
from homeport.supervised import Tasks, supervised

SWEEP_EACH_S = 3600.0


class Shared:
    """The dicts and queues of one environment."""

    def __init__(self, database: Database) -> None:
        self.dicts, self.queues = Dicts(database), Queues(database)
        self._tasks = Tasks()

    async def open(self) -> None:
        """Read the names; begin to remove entries that are too old."""
        await self.dicts.objects.load()
        await self.queues.load()
        self._tasks.start(
            "sweeping dicts and queues",
            supervised("sweeping dicts and queues", self._sweep, told=StorageError),
        )

    async def close(self) -> None:
        """Stop sweeping."""
        await self._tasks.close()

    async def _sweep(self) -> None:
        while True:
            await self.dicts.sweep()
            await self.queues.sweep()
            await asyncio.sleep(SWEEP_EACH_S)
