"""Requests that have ended: a list, and one with its waterfall."""

import dataclasses
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
from homeport.contract.waterfall import MEANINGS, steps
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, segment

SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A part of a request; times are in milliseconds from its beginning."""

    name: str
    begin_ms: float
    took_ms: float
    meaning: str = ""
    inner: bool = False  # a part of the container's start
    lines: tuple[LogLine, ...] = ()  # printed during it


async def listed(visit: Visit) -> Part:
    """Show the last requests that match the query."""
    request_query = RequestQuery(
        tail=SHOWN,
        app=visit.parameter("app"),
        tag=visit.parameter("tag"),
        container=visit.parameter("container"),
        status=visit.parameter("status"),
        path=visit.parameter("path"),
        method=visit.parameter("method").upper(),
        slower=visit.number("slower"),
        cold=bool(visit.parameter("cold")),
        failed=bool(visit.parameter("failed")),
    )
    listed = await visit.api.get(RequestList, "/v1/requests", request_query)
    body = render.template(
        "requests",
        visit=visit,
        wanted=request_query,
        requests=reversed(listed.requests),
        most=SHOWN,
    )
    return Part(title="Requests", body=body, live_s=2.0)


async def detail_page(visit: Visit) -> Part:
    """Show one request."""
    detail = await visit.api.get(RequestDetail, f"/v1/requests/{segment(visit.parameter('id'))}")
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
        bars.append(dataclasses.replace(bar, lines=tuple(during)))
    if lines:  # after the response, or by a clock that runs differently
        bars.append(
            Bar(name="afterwards", begin_ms=request.total_ms, took_ms=0, lines=tuple(lines))
        )
    return bars


def parts(request: RecordedRequest, start: ColdStart | None) -> Iterator[Bar]:
    """Yield a request's parts, and after `parked` those of the start that it waited for."""
    for step in steps(request, start):
        name, meaning = step.name, MEANINGS.get(step.name, "")
        if step.inner and start is not None:
            name = name.replace("_", " ")
            meaning = f"of the container's start, which was {start.origin}"
        yield Bar(name=name, begin_ms=step.begin_ms, took_ms=step.took_ms, meaning=meaning, inner=step.inner)  # fmt: skip


PAGES = (Page(path="/requests", handler=listed), Page(path="/request", handler=detail_page))
