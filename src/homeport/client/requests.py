"""Requests that have ended."""

from urllib.parse import quote

from homeport.client.connection import Connection
from homeport.contract import query
from homeport.contract.api.requests import RecordedRequest, RequestDetail, RequestList, RequestQuery


class Requests:
    """Lists requests, and shows one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self, wanted: RequestQuery) -> tuple[RecordedRequest, ...]:
        """Return requests, the last to end last."""
        path = f"/v1/requests?{query.encode(wanted)}"
        return (await self._connection.ask(RequestList, "GET", path)).requests

    async def one(self, request: str) -> RequestDetail:
        return await self._connection.ask(
            RequestDetail, "GET", f"/v1/requests/{quote(request, safe='')}"
        )
