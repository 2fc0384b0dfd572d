"""Captures of endpoints, and the requests that were captured."""

from collections.abc import AsyncIterator

from homeport.client.connection import Connection, as_, path_of
from homeport.contract import query
from homeport.contract.api.captures import (
    Capture,
    CapturedRequest,
    CaptureList,
    CaptureStopped,
    Mirrored,
    MirrorQuery,
    NewCapture,
)


class Captures:
    """Starts, stops and lists captures, and shows what was captured."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> CaptureList:
        return await self._connection.ask(CaptureList, "GET", "/v1/captures")

    async def start(self, wanted: NewCapture) -> Capture:
        return await self._connection.ask(Capture, "POST", "/v1/captures", wanted)

    async def stop(self, app: str, tag: str) -> int:
        """End the captures of an app, or of one endpoint; return how many requests were captured."""
        path = path_of("captures", app, tag or "-")
        return (await self._connection.ask(CaptureStopped, "DELETE", path)).taken

    async def mirror(self, wanted: MirrorQuery) -> AsyncIterator[Mirrored]:
        """Yield copies of an endpoint's requests from now on."""
        path = f"/v1/captures/mirror?{query.encode(wanted)}"
        async with self._connection.stream(as_(Mirrored), "GET", path) as lines:
            async for line in lines:
                yield line

    async def one(self, request: str) -> CapturedRequest:
        path = path_of("captures", request)
        return await self._connection.ask(CapturedRequest, "GET", path)
