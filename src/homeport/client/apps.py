"""Apps, whatever state they are in."""

from homeport.client.connection import Connection, path_of
from homeport.contract import query
from homeport.contract.api.apps import (
    AppList,
    AppStatus,
    Changes,
    ChangesQuery,
    History,
    Stopped,
    Version,
)
from homeport.contract.api.coldstarts import ColdStart, ColdStartList, ColdStartQuery


class Apps:
    """Lists, describes and stops apps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[AppStatus, ...]:
        return (await self._connection.ask(AppList, "GET", "/v1/apps")).apps

    async def one(self, name: str) -> AppStatus:
        return await self._connection.ask(AppStatus, "GET", path_of("apps", name))

    async def stop(self, name: str) -> int:
        """Return how many containers were ended."""
        return (
            await self._connection.ask(Stopped, "POST", path_of("apps", name, "stop"))
        ).containers

    async def history(self, name: str) -> tuple[Version, ...]:
        """Return an app's versions, the newest first."""
        return (
            await self._connection.ask(History, "GET", path_of("apps", name, "history"))
        ).revisions

    async def changes(self, name: str, versions: ChangesQuery) -> Changes:
        """Return what differs between two versions of an app."""
        path = f"{path_of('apps', name, 'changes')}?{query.encode(versions)}"
        return await self._connection.ask(Changes, "GET", path)

    async def cold_starts(self, name: str, starts: ColdStartQuery) -> tuple[ColdStart, ...]:
        """Return the starts of an app's containers, the oldest first."""
        path = f"{path_of('apps', name, 'cold-starts')}?{query.encode(starts)}"
        return (await self._connection.ask(ColdStartList, "GET", path)).cold_starts
