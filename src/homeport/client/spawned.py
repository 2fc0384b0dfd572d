"""Calls that `.spawn` made."""

from homeport.client.connection import Connection, path_of
from homeport.contract import query
from homeport.contract.api.spawned import CallInfo, CallList, CallsQuery, CancelQuery, StoredCall


class Spawned:
    """Spawned calls, and their outcomes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self, wanted: CallsQuery) -> tuple[StoredCall, ...]:
        path = f"/v1/spawned?{query.encode(wanted)}"
        return (await self._connection.ask(CallList, "GET", path)).calls

    async def one(self, call: str) -> CallInfo:
        return await self._connection.ask(CallInfo, "GET", path_of("spawned", call))

    async def children(self, call: str) -> tuple[StoredCall, ...]:
        return (
            await self._connection.ask(CallList, "GET", path_of("spawned", call, "children"))
        ).calls

    async def cancel(self, call: str, wanted: CancelQuery) -> None:
        await self._connection.call(
            "POST", f"{path_of('spawned', call, 'cancel')}?{query.encode(wanted)}"
        )
