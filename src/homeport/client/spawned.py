"""Calls that `.spawn` made."""

import urllib.parse

from homeport.client.connection import Connection
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
        return await self._connection.ask(CallInfo, "GET", _path(call))

    async def children(self, call: str) -> tuple[StoredCall, ...]:
        return (await self._connection.ask(CallList, "GET", f"{_path(call)}/children")).calls

    async def cancel(self, call: str, wanted: CancelQuery) -> None:
        await self._connection.call("POST", f"{_path(call)}/cancel?{query.encode(wanted)}")


def _path(call: str) -> str:
    return f"/v1/spawned/{urllib.parse.quote(call, safe='')}"
