"""`homeport app stats`: the requests of endpoints and the containers of functions over some time, one line each."""

from collections.abc import Sequence

from homeport.cli import output, server
from homeport.cli.image import size
from homeport.contract import names
from homeport.contract.api.series import EndpointSeries, FunctionSeries, SeriesQuery
from homeport.contract.sizes import MIB
from homeport.settings import Settings

BARS = "▁▂▃▄▅▆▇█"
SHOWN = 40  # characters of a chart
STEPS_S = (10, 60, 300, 900, 3600)


async def stats(settings: Settings, query: SeriesQuery, *, json: bool) -> None:
    """Show what happened since some time."""
    async with server.running(settings) as client:
        series = await client.over_time.series(query)
    if json:
        output.show_json(series)
        return
    columns = ("Endpoint", "Requests", "Failed", "Cold", "p50", "p99", "Sent", "Requests over time")
    output.show_table(columns, map(endpoint, series.endpoints), empty="no request was recorded")
    if series.functions:
        output.out().print()
        of_functions = (
            "Function",
            "Containers",
            "Started",
            "Failed",
            "Cores",
            "Memory",
            "GPU memory",
        )
        output.show_table(of_functions, map(function, series.functions), empty="")


def step_s(span_s: float) -> int:
    """Return the step with which a time fits a chart.

    >>> [step_s(span) for span in (60.0, 3600.0, 86400.0)]
    [10, 300, 3600]
    """
    return next((step for step in STEPS_S if span_s / step <= SHOWN), STEPS_S[-1])


def endpoint(series: EndpointSeries) -> tuple[str, ...]:
    """PURE: return an endpoint's row: sums, the middle of the medians, and the highest 99th percentile."""
    counts = [sum(step) for step in zip(*series.by_status.values(), strict=True)]
    medians = sorted(ms for ms in series.p50_ms if ms is not None)
    highest = max((ms for ms in series.p99_ms if ms is not None), default=None)
    return (
        names.endpoint(series.app, series.tag),
        f"{sum(counts)}",
        f"{sum(series.by_status.get('5xx', ()))}",
        f"{sum(series.cold)}",
        output.duration(medians[len(medians) // 2]) if medians else "",
        output.duration(highest) if highest is not None else "",
        size(sum(series.sent_bytes)),
        chart(counts),
    )


def function(series: FunctionSeries) -> tuple[str, ...]:
    """PURE: return a function's row: the most at once, sums, and the most cores of a step."""
    gpu_mib = max(series.gpu_memory_mib)
    return (
        names.endpoint(series.app, series.function),
        f"{max(series.containers)}",
        f"{sum(series.cold_starts)}",
        f"{sum(series.failed_starts)}",
        f"{max(series.cpu_cores):.2f}",
        size(max(series.memory_mib) * MIB),
        size(gpu_mib * MIB) if gpu_mib else "",
    )


def chart(counts: Sequence[int]) -> str:
    """PURE: return a line of bars; the highest is the largest number.

    >>> chart([0, 1, 4, 8])
    ' ▁▄█'
    """
    highest = max(counts, default=0)
    return "".join(
        BARS[max((count * len(BARS) + highest - 1) // highest - 1, 0)] if count else " "
        for count in counts
    )
