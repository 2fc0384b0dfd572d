"""Captures of endpoints, and the requests that were captured."""

from urllib.parse import quote

from homeport.client.connection import Connection
from homeport.contract.api.captures import (
    Capture,
    CapturedRequest,
    CaptureList,
    CaptureStopped,
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
        path = f"/v1/captures/{quote(app, safe='')}/{quote(tag or '-', safe='')}"
        return (await self._connection.ask(CaptureStopped, "DELETE", path)).taken

    async def one(self, request: str) -> CapturedRequest:
        path = f"/v1/captures/{quote(request, safe='')}"
        return await self._connection.ask(CapturedRequest, "GET", path)
