"""The requests of the last minutes, by endpoint."""

import time

from homeport.contract.api.series import Series, SeriesQuery
from homeport.contract.dataclass import dataclass
from homeport.dashboard.pages.page import Visit

STEP_S, STEPS = 10, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What happened at one endpoint in the last minutes."""

    per_s: float = 0.0  # requests, in the last step that is over
    requests: int = 0
    errors: int = 0  # answered with 5xx
    line: tuple[int, ...] = ()  # requests by step; empty: none


async def recent(visit: Visit) -> dict[tuple[str, str], Recent]:
    """Return what happened, by app and tag; nothing of what was quiet."""
    asked = SeriesQuery(since=time.time() - STEP_S * STEPS, step_s=STEP_S)
    series = await visit.api.get(Series, "/v1/series", asked)
    found = {}
    for each in series.endpoints:
        line = tuple(map(sum, zip(*each.by_status.values(), strict=True)))
        over = line[:-1]  # the last step is not over
        found[each.app, each.tag] = Recent(
            per_s=over[-1] / series.step_s if over else 0.0,
            requests=sum(line),
            errors=sum(each.by_status.get("5xx", ())),
            line=line,
        )
    return found
