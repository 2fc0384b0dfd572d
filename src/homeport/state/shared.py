"""Opens the dicts and queues of all environments, and removes entries that are too old."""

import asyncio
from collections.abc import Collection

from homeport.contract.errors import StorageError
from homeport.state.database import Database
from homeport.state.dicts import Dicts
from homeport.state.queues import Queues
from homeport.state.scope import MAIN, Scope, Scoped
from homeport.supervised import Tasks, supervised

SWEEP_EACH_S = 3600.0


class Shared:
    """The dicts and queues."""

    def __init__(self, database: Database) -> None:
        self.dicts = Scoped(lambda scope: Dicts(database, scope=scope))
        self.queues = Scoped(lambda scope: Queues(database, scope=scope))
        self._tasks = Tasks()

    async def open(self, scopes: Collection[Scope] = (MAIN,)) -> None:
        """Read the names; begin to remove entries that are too old."""
        for scope in scopes:
            await self.load(scope)
        self._tasks.start(
            "sweeping dicts and queues",
            supervised("sweeping dicts and queues", self._sweep, expected=StorageError),
        )

    async def load(self, scope: Scope) -> None:
        """Read the names of an environment."""
        await self.dicts.of(scope).objects.load()
        await self.queues.of(scope).load()

    def forget(self, scope: Scope) -> None:
        """Drop the names of an environment that was deleted."""
        self.dicts.forget(scope)
        self.queues.forget(scope)

    async def close(self) -> None:
        """Stop sweeping."""
        await self._tasks.close()

    async def _sweep(self) -> None:
        while True:
            # Each removes old entries of all environments.
            await self.dicts.of(MAIN).sweep()
            await self.queues.of(MAIN).sweep()
            await asyncio.sleep(SWEEP_EACH_S)
