"""Reads the bodies of requests into memory: large ones one after the other, because many at once could fill it."""

import asyncio
from collections.abc import AsyncIterator

from homeport.contract import frames
from homeport.contract.errors import BadRequest
from homeport.contract.sizes import MIB

MAX_BODY_BYTES = 128 * MIB
SMALL_BODY_BYTES = MIB


class Bodies:
    """The bodies of one noun's requests."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def whole(self, body: AsyncIterator[bytes]) -> bytes:
        """Return a body."""
        data = bytearray()
        async for chunk in body:
            data += chunk
            if len(data) > SMALL_BODY_BYTES:
                async with self._turn:
                    await self._read_more(data, body)
        return bytes(data)

    async def parts(self, body: AsyncIterator[bytes]) -> list[bytes]:
        """Return the parts of a body (`contract/frames.py`)."""
        try:
            return frames.values(await self.whole(body))
        except ValueError as error:
            raise BadRequest(f"the body is not a list of values: {error}") from None

    async def _read_more(self, data: bytearray, body: AsyncIterator[bytes]) -> None:
        async for chunk in body:
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise BadRequest(f"the values have more than {MAX_BODY_BYTES} bytes")
