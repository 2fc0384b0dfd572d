"""Requests that have ended."""

from collections.abc import AsyncIterator

from homeport.client.connection import Connection, as_, path_of
from homeport.contract import query
from homeport.contract.api.requests import (
    LiveQuery,
    LiveRequests,
    RecordedRequest,
    RequestDetail,
    RequestList,
    RequestQuery,
)


class Requests:
    """Lists requests, and shows one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self, wanted: RequestQuery) -> tuple[RecordedRequest, ...]:
        """Return requests, the last to end last."""
        path = f"/v1/requests?{query.encode(wanted)}"
        return (await self._connection.ask(RequestList, "GET", path)).requests

    async def live(self, wanted: LiveQuery) -> AsyncIterator[LiveRequests]:
        """Yield requests that end from now on."""
        path = f"/v1/requests/live?{query.encode(wanted)}"
        async with self._connection.stream(as_(LiveRequests), "GET", path) as lines:
            async for line in lines:
                yield line

    async def one(self, request: str) -> RequestDetail:
        return await self._connection.ask(RequestDetail, "GET", path_of("requests", request))
