"""Requests that have ended: a list, and one with its waterfall."""

from collections.abc import Iterator

from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.api.requests import (
    RecordedRequest,
    RequestDetail,
    RequestList,
    RequestQuery,
)
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, segment

SHOWN = 200
#: Part -> what it is.
TOLD = {
    "received": "until the head of the request had arrived",
    "parked": "no container was ready",
    "queued": "all slots of the containers were taken",
    "connected": "until the container had the request",
    "app": "the app, until the first byte of its response",
    "stream": "the rest of the response, at the visitor's pace",
}
HIDDEN = ("parked", "first_byte")  # parts of a start that the request has itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A part of a request; times are in milliseconds from its beginning."""

    name: str
    begin_ms: float
    took_ms: float
    told: str = ""
    inner: bool = False  # a part of the container's start
    lines: tuple[LogLine, ...] = ()  # printed during it


async def listed(visit: Visit) -> Part:
    """Show the last requests that fit what is asked."""
    wanted = RequestQuery(
        tail=SHOWN,
        app=visit.asked("app"),
        tag=visit.asked("tag"),
        container=visit.asked("container"),
        status=visit.asked("status"),
        path=visit.asked("path"),
        method=visit.asked("method").upper(),
        slower=visit.number("slower"),
        cold=bool(visit.asked("cold")),
        failed=bool(visit.asked("failed")),
    )
    found = await visit.api.get(RequestList, "/v1/requests", wanted)
    body = render.template(
        "requests", visit=visit, wanted=wanted, requests=reversed(found.requests), most=SHOWN
    )
    return Part(title="Requests", body=body, live_s=2.0)


async def one(visit: Visit) -> Part:
    """Show one request."""
    detail = await visit.api.get(RequestDetail, f"/v1/requests/{segment(visit.asked('id'))}")
    request = detail.request
    body = render.template(
        "request", visit=visit, r=request, bars=waterfall(detail), start=detail.start
    )
    return Part(title=f"Request {request.id}", body=body)


def waterfall(detail: RequestDetail) -> list[Bar]:
    """Return the parts of a request, each with what was printed during it."""
    request, lines = detail.request, sorted(detail.lines, key=lambda line: line.at)
    bars = []
    for bar in parts(request, detail.start):
        end_ms = bar.begin_ms + bar.took_ms
        during = []
        while lines and not bar.inner and (lines[0].at - request.at) * 1000 < end_ms:
            during.append(lines.pop(0))
        bars.append(_with(bar, during))
    if lines:  # after the response, or by a clock that runs differently
        bars.append(
            Bar(name="afterwards", begin_ms=request.total_ms, took_ms=0, lines=tuple(lines))
        )
    return bars


def parts(request: RecordedRequest, start: ColdStart | None) -> Iterator[Bar]:
    """Yield a request's parts, and after `parked` those of the start that it waited for."""
    at_ms = 0.0
    for name, took_ms in request.parts_ms.items():
        yield Bar(name=name, begin_ms=at_ms, took_ms=took_ms, told=TOLD.get(name, ""))
        if name == "parked" and start is not None:
            yield from _of_start(request, start, at_ms + took_ms)
        at_ms += took_ms


def _of_start(request: RecordedRequest, start: ColdStart, until_ms: float) -> Iterator[Bar]:
    at_ms = (start.at - request.at) * 1000
    for name, took_ms in start.timings_ms.items():
        begin_ms, end_ms = max(at_ms, 0.0), min(at_ms + took_ms, until_ms)
        at_ms += took_ms
        if end_ms > begin_ms and name not in HIDDEN:
            told = f"of the container's start, which was {start.origin}"
            yield Bar(name=name.replace("_", " "), begin_ms=begin_ms, took_ms=end_ms - begin_ms, told=told, inner=True)  # fmt: skip


def _with(bar: Bar, lines: list[LogLine]) -> Bar:
    return Bar(
        name=bar.name,
        begin_ms=bar.begin_ms,
        took_ms=bar.took_ms,
        told=bar.told,
        inner=bar.inner,
        lines=tuple(lines),
    )


PAGES = (Page(path="/requests", handler=listed), Page(path="/request", handler=one))
