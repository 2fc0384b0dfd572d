"""Uploads of files that manifests name by their hash."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from homeport.client.connection import CHUNK_BYTES, Connection
from homeport.contract.api.blobs import Hashes, Missing
from homeport.contract.errors import BadRequest, ScriptError


class Blobs:
    """Files, by their hash."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def upload(self, sources: Mapping[str, str]) -> None:
        """Upload the files that the server does not have; `sources` is hash -> path."""
        hashes = Hashes(hashes=tuple(sources))
        answer = await self._connection.ask(Missing, "POST", "/v1/blobs/missing", hashes)
        for digest in answer.missing:
            await self._upload(digest, Path(sources[digest]))

    async def _upload(self, digest: str, path: Path) -> None:
        found = hashlib.sha256()

        async def content() -> AsyncIterator[bytes]:
            with await asyncio.to_thread(path.open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    found.update(chunk)
                    yield chunk

        try:
            await self._connection.call("PUT", f"/v1/blobs/{digest}", content())
        except BadRequest:
            if found.hexdigest() == digest:
                raise
            raise ScriptError(f"{path} changed while it was uploaded", hint="try again") from None
        except OSError as error:
            raise ScriptError(f"{path} cannot be read any more: {error.strerror}") from None
