"""The routes of the files that a deploy needs."""

from collections.abc import AsyncIterator

from homeport.contract.api.blobs import Hashes, Missing
from homeport.control.api.access import Caller
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.state import blobs


class Blobs:
    """Stores uploaded files, each by the hash of its content."""

    def __init__(self, blob_store: blobs.Blobs) -> None:
        self._blobs = blob_store

    @route("POST", "/v1/blobs/missing", audit=Audited.NONE)
    async def missing(self, caller: Caller, body: Hashes) -> Missing:
        """Return which files the caller's workspace has not uploaded."""
        return Missing(missing=tuple(self._blobs.missing(list(body.hashes), caller.workspace)))

    @route("PUT", "/v1/blobs/{sha256}", audit=Audited.NONE)
    async def put(self, caller: Caller, sha256: str, body: AsyncIterator[bytes]) -> None:
        """Upload a file: 400 if its bytes have another hash."""
        await self._blobs.put(sha256, body, caller.workspace)
