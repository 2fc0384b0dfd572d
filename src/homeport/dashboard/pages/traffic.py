"""The requests of the last minutes, by endpoint."""

import time

from homeport.contract.api.series import Series, SeriesQuery
from homeport.contract.dataclass import dataclass
from homeport.dashboard.pages.page import Visit

STEP_S, STEPS = 10, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The requests to one endpoint in the last minutes."""

    per_s: float = 0.0  # requests, in the last step that is over
    requests: int = 0
    errors: int = 0  # answered with 5xx
    line: tuple[int, ...] = ()  # requests by step; empty: none


async def recent(visit: Visit) -> dict[tuple[str, str], Recent]:
    """Return the traffic by app and tag; endpoints without requests are left out."""
    series_query = SeriesQuery(since=time.time() - STEP_S * STEPS, step_s=STEP_S)
    series = await visit.api.get(Series, "/v1/series", series_query)
    traffic = {}
    for series_of_endpoint in series.endpoints:
        line = tuple(map(sum, zip(*series_of_endpoint.by_status.values(), strict=True)))
        complete = line[:-1]  # the last step is not over
        traffic[series_of_endpoint.app, series_of_endpoint.tag] = Recent(
            per_s=complete[-1] / series.step_s if complete else 0.0,
            requests=sum(line),
            errors=sum(series_of_endpoint.by_status.get("5xx", ())),
            line=line,
        )
    return traffic
