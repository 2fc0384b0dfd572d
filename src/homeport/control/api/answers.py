"""Makes the API's answers: JSON of a typed value, lines of a stream, or a refusal."""

import http
import json
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from homeport.contract import codec, frames
from homeport.contract.api import events
from homeport.contract.api.answers import Fault, Refusal
from homeport.contract.errors import Failure, NotFound, TooMany
from homeport.control.api import pieces
from homeport.control.turns import in_turns

LINES = "application/x-ndjson"
CHUNK_BYTES = 256 * 1024  # of a long answer
NOTHING = Response(status_code=204)  # for all that answer nothing

log = logging.getLogger(__name__)


def json_of(value: Any, status: int = 200) -> Response:
    """Answer with a value of the contract."""
    text = pieces.JSON.encode(codec.encode(value)).encode()
    return Response(text, status_code=status, media_type="application/json")


async def long_json_of(value: Any) -> Response:
    """Answer with a value that may have a hundred thousand parts; others on the event loop have their turn meanwhile."""
    chunks = _chunks(value)
    first = await anext(chunks)
    if len(first) < CHUNK_BYTES:
        return Response(first, media_type="application/json")

    async def every() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return StreamingResponse(every(), media_type="application/json")


async def _chunks(value: Any) -> AsyncIterator[bytes]:
    """Yield the JSON of a value, in chunks of at least `CHUNK_BYTES` but for the last; all of it at once would be copied at once."""
    chunk = bytearray()
    async for piece in in_turns(pieces.of(value)):
        chunk += piece.encode()
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def lines_of(stream: AsyncIterator[Any]) -> Response:
    """Answer with one JSON object a line; `bytes` are lines that are encoded already.

    An error ends the stream with an `events.Error` as its last line.
    """

    async def encoded() -> AsyncIterator[str | bytes]:
        try:
            async for item in stream:
                yield item if isinstance(item, bytes) else _line(item)
        except Exception as error:
            if not isinstance(error, Failure):
                log.exception("a stream failed")
            yield _line(events.Error(error=Fault.of(error)))

    return StreamingResponse(encoded(), media_type=LINES)


def parts_of(values: Iterable[bytes | None]) -> Response:
    """Answer with byte strings (`contract/frames.py`)."""
    return Response(frames.pack(values), media_type="application/octet-stream")


def refusal(failure: Failure) -> Response:
    """Answer with a failure, by its kind's status."""
    answer = json_of(Refusal(error=Fault.of(failure)), failure.status)
    if isinstance(failure, TooMany) and failure.retry_after_s:
        answer.headers["Retry-After"] = str(failure.retry_after_s)
    return answer


def no_route(request: Request, status: int) -> Response:
    """Answer a request for an unknown route, by 404, or method, by 405."""
    why = http.HTTPStatus(status).phrase
    failure = NotFound(f"{request.method} {request.url.path}: {why}")
    return json_of(Refusal(error=Fault.of(failure)), status)


def our_fault(error: Exception) -> Response:
    """Answer for a handler with a bug: it raised an unexpected exception."""
    return json_of(Refusal(error=Fault.of(error)), 500)


def _line(value: Any) -> str:
    return json.dumps(codec.encode(value), ensure_ascii=False) + "\n"
