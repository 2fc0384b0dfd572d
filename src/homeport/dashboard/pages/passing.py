"""Passes an answer of the API on to the visitor, as it arrives."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import httpx
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from homeport.contract.errors import Failure


class Passing(StreamingResponse):
    """A response whose body is an answer of the API; the answer is closed even if the visitor leaves."""

    def __init__(
        self,
        answer: httpx.Response,
        reading: AbstractAsyncContextManager[httpx.Response],
        *,
        media_type: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        """`reading` is the context that has yielded the answer."""
        self._answer, self._reading = answer, reading
        super().__init__(self._pieces(), headers=headers, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._reading.__aexit__(None, None, None)

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._answer.aiter_raw():
                yield piece
        except (Failure, httpx.HTTPError):
            return  # the visitor's browser sees the end, and asks again
