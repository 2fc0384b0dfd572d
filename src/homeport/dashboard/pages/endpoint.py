"""One endpoint: charts, its last requests, and its log."""

import asyncio
import time
from collections.abc import Sequence

from starlette.responses import Response

from homeport.contract.api.apps import AppStatus, EndpointStatus
from homeport.contract.api.requests import RequestList, RequestQuery
from homeport.contract.api.series import EndpointSeries, FunctionSeries, Series, SeriesQuery
from homeport.contract.errors import NotFound
from homeport.dashboard import render
from homeport.dashboard.charts import Line, Marker, chart
from homeport.dashboard.pages.home import state
from homeport.dashboard.pages.page import Page, Part, Visit, segment

#: Name -> how far back, and the length of a step, in seconds.
SPANS = {"15m": (900, 10), "1h": (3600, 60), "6h": (6 * 3600, 300), "1d": (86400, 900), "7d": (7 * 86400, 3600)}  # fmt: skip
CLASSES = ("2xx", "3xx", "4xx", "5xx", "left")


async def find(visit: Visit) -> tuple[AppStatus, EndpointStatus]:
    """Return the app and the endpoint that a page is about."""
    name, tag = visit.parameter("app"), visit.parameter("tag")
    app = await visit.api.get(AppStatus, f"/v1/apps/{segment(name)}")
    for endpoint in app.endpoints:
        if endpoint.tag == tag:
            return app, endpoint
    raise NotFound(f"the app `{name}` has no endpoint `{tag}` now", hint="see the app's page")


async def endpoint(visit: Visit) -> Part | Response:
    """Show one endpoint."""
    app, found_endpoint = await find(visit)
    span = visit.parameter("span")
    span = span if span in SPANS else "1h"
    back_s, step_s = SPANS[span]
    span_query = SeriesQuery(
        app=app.name, tag=found_endpoint.tag, since=time.time() - back_s, step_s=step_s
    )
    of_it = RequestQuery(app=app.name, tag=found_endpoint.tag, tail=12)
    series, requests = await asyncio.gather(
        visit.api.get(Series, "/v1/series", span_query),
        visit.api.get(RequestList, "/v1/requests", of_it),
    )
    # Without `begin`: a page on which nothing has happened stays the same a minute later.
    made_of = (span, app, series.endpoints, series.functions, series.deploys, requests)
    tag = render.mark(repr(made_of).encode())
    if visit.has(tag):
        return render.unchanged(tag)
    body = render.template(
        "endpoint",
        visit=visit,
        app=app,
        e=found_endpoint,
        state=state(app, found_endpoint),
        span=span,
        spans=SPANS,
        charts=draw(series, found_endpoint.tag, found_endpoint.function),
        requests=reversed(requests.requests),
        containers=[
            container
            for container in app.containers
            if container.function == found_endpoint.function
        ],
    )
    live_s = 2.0 if span == "15m" else 5.0
    return Part(title=f"{app.name}.{found_endpoint.tag}", body=body, live_s=live_s, tag=tag)


def draw(series: Series, tag: str, function: str) -> list[str]:
    """Return the charts of an endpoint, and of its function's containers."""
    nothing: tuple[int, ...] = (0,) * series.steps
    of_endpoint = next(
        (endpoint_series for endpoint_series in series.endpoints if endpoint_series.tag == tag),
        None,
    )
    of_function = next(
        (
            function_series
            for function_series in series.functions
            if function_series.function == function
        ),
        None,
    )
    markers = [
        Marker(
            place=(deploy.at - series.begin) / (series.steps * series.step_s),
            text=f"v{deploy.version}{f' {deploy.tag}' if deploy.tag else ''}",
        )
        for deploy in series.deploys
    ]

    def chart_of(title: str, unit: str, *lines: Line) -> str:
        return chart(
            title, lines, unit=unit, begin=series.begin, step_s=series.step_s, markers=markers
        )

    drawn = [
        chart_of("Requests", "per second", *_by_status(of_endpoint, series, nothing)),
        chart_of("Latency", "ms", *_latency(of_endpoint, series)),
    ]
    if of_function is None:
        return [*drawn, chart_of("Containers", "at once", Line(name="containers", values=nothing))]
    return [*drawn, *(chart_of(title, unit, *lines) for title, unit, lines in _of(of_function))]


def _by_status(
    of_endpoint: EndpointSeries | None, series: Series, nothing: tuple[int, ...]
) -> list[Line]:
    counts = of_endpoint.by_status if of_endpoint else {"2xx": nothing}
    kinds = dict(zip(CLASSES, "acdbf", strict=True))
    return [
        Line(
            name="visitor left" if name == "left" else name,
            values=_rates(counts[name], series, time.time()),
            kind=kinds[name],
        )
        for name in CLASSES
        if name in counts
    ]


def _rates(counts: Sequence[int], series: Series, now: float) -> list[float]:
    """Return requests per second; the last step is as long as it has lasted."""
    *over, last = counts
    lasted_s = now - (series.begin + len(over) * series.step_s)
    return [
        *(count / series.step_s for count in over),
        last / min(max(lasted_s, 1.0), series.step_s),
    ]


def _sampled(values: Sequence[float]) -> list[float | None]:
    """Return sampled values, without a last one of 0, which may not have been sampled yet."""
    *before, last = values
    return [*before, last or None]


def _latency(of_endpoint: EndpointSeries | None, series: Series) -> list[Line]:
    none = (None,) * series.steps
    median = of_endpoint.p50_ms if of_endpoint else none
    high = of_endpoint.p99_ms if of_endpoint else none
    return [Line(name="p50", values=median), Line(name="p99", values=high, kind="d")]


def _of(series: FunctionSeries) -> list[tuple[str, str, list[Line]]]:
    charts = [
        ("Containers", "at once", [Line(name="containers", values=_sampled(series.containers))]),
        (
            "Cold starts",
            "in a step",
            [
                Line(name="ready", values=series.cold_starts, kind="c"),
                Line(name="failed", values=series.failed_starts, kind="b"),
            ],
        ),
        ("CPU", "cores", [Line(name="all containers", values=_sampled(series.cpu_cores))]),
        (
            "Memory",
            "MiB",
            [Line(name="all containers", values=_sampled(series.memory_mib), kind="e")],
        ),
    ]
    if any(series.gpu_memory_mib):
        lines = [Line(name="all containers", values=_sampled(series.gpu_memory_mib), kind="c")]
        charts.append(("GPU memory", "MiB", lines))
    return charts


PAGES = (Page(path="/endpoint", handler=endpoint),)
