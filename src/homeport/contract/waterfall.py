"""The parts of a request, one below the other; the command line and the dashboard draw them."""

from collections.abc import Iterator

from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.api.requests import RecordedRequest
from homeport.contract.dataclass import dataclass

#: Part -> its description.
MEANINGS = {
    "received": "until the head of the request had arrived",
    "parked": "no container was ready",
    "queued": "all slots of the containers were taken",
    "connected": "until the container had the request",
    "app": "the app, until the first byte of its response",
    "stream": "the rest of the response, at the visitor's pace",
}
ITS_OWN = (
    "parked",
    "first_byte",
)  # parts of a container's start that are parts of the request already


@dataclass(frozen=True, slots=True)
class Step:
    """One part; times are in milliseconds from the request's beginning."""

    name: str
    begin_ms: float
    took_ms: float
    inner: bool = False  # a part of the container's start


def steps(request: RecordedRequest, start: ColdStart | None) -> Iterator[Step]:
    """Yield a request's parts, and after `parked` those of the start that it waited for."""
    at_ms = 0.0
    for name, took_ms in request.parts_ms.items():
        yield Step(name, at_ms, took_ms)
        if name == "parked" and start is not None:
            yield from _of_start(request, start, at_ms + took_ms)
        at_ms += took_ms


def _of_start(request: RecordedRequest, start: ColdStart, until_ms: float) -> Iterator[Step]:
    """Yield the parts of a container's start, as far as the request waited for them."""
    at_ms = (start.at - request.at) * 1000
    for name, took_ms in start.timings_ms.items():
        begin_ms, end_ms = max(at_ms, 0.0), min(at_ms + took_ms, until_ms)
        at_ms += took_ms
        if end_ms > begin_ms and name not in ITS_OWN:
            yield Step(name, begin_ms, end_ms - begin_ms, inner=True)
