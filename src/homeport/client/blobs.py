"""Uploads of files that manifests name by their hash."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from homeport.client.connection import Connection
from homeport.client.replies import CHUNK_BYTES
from homeport.contract.api.blobs import Hashes, Missing
from homeport.contract.errors import BadRequest, ScriptError


class Blobs:
    """Files, by their hash."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def upload(
        self, sources: Mapping[str, str], tell: Callable[[int, int], None] | None = None
    ) -> None:
        """Upload the files that the server does not have; `sources` is hash -> path.

        `tell` is called with how many bytes have gone, and how many there are.
        """
        hashes = Hashes(hashes=tuple(sources))
        answer = await self._connection.ask(Missing, "POST", "/v1/blobs/missing", hashes)
        missing = {digest: Path(sources[digest]) for digest in answer.missing}
        gone, total = 0, 0
        if tell is not None:
            total = sum(map(_size, missing.values()))

        def went(count: int) -> None:
            nonlocal gone
            gone += count
            if tell is not None:
                tell(gone, max(gone, total))

        for digest, path in missing.items():
            await self._upload(digest, path, went)

    async def _upload(self, digest: str, path: Path, went: Callable[[int], None]) -> None:
        answer = hashlib.sha256()

        async def content() -> AsyncIterator[bytes]:
            with await asyncio.to_thread(path.open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    answer.update(chunk)
                    yield chunk
                    went(len(chunk))

        try:
            await self._connection.call("PUT", f"/v1/blobs/{digest}", content())
        except BadRequest:
            if answer.hexdigest() == digest:
                raise
            raise ScriptError(f"{path} changed while it was uploaded", hint="try again") from None
        except OSError as error:
            raise ScriptError(f"{path} cannot be read any more: {error.strerror}") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the upload says what is wrong
