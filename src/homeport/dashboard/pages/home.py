"""Home: every endpoint, those with problems first."""

import asyncio
from collections.abc import Iterator

from starlette.responses import Response

from homeport.contract import codec
from homeport.contract.api.apps import AppList, AppState, AppStatus, EndpointStatus
from homeport.contract.dataclass import dataclass
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit
from homeport.dashboard.pages.traffic import Recent, recent

LIVE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: an endpoint, or an app that has none now."""

    id: str
    app: AppStatus
    endpoint: EndpointStatus | None
    state: str  # a word for people
    problem: str  # empty: all is well
    recent: Recent

    @property
    def rank(self) -> tuple[int, str, str]:
        """Endpoints with problems come first, stopped ones last."""
        place = 0 if self.problem else 2 if self.app.state is AppState.STOPPED else 1
        return place, self.app.name, self.endpoint.tag if self.endpoint else ""


async def home(visit: Visit) -> Part | Response:
    """Show all endpoints."""
    raw, traffic = await asyncio.gather(visit.api.raw("GET", "/v1/apps"), recent(visit))
    # With hundreds of endpoints, decoding and rendering all of them costs more than asking for them.
    tag = render.mark(
        visit.environment.encode(), raw, repr(sorted(traffic.items(), key=str)).encode()
    )
    if visit.has(tag):
        return render.unchanged(tag)
    apps = codec.loads(AppList, raw)
    rows = sorted(
        (row for app in apps.apps for row in _rows(app, traffic)), key=lambda row: row.rank
    )
    body = render.template(
        "home",
        rows=rows,
        environment=visit.environment,
        problems=sum(bool(row.problem) for row in rows),
        per_s=sum(row.recent.per_s for row in rows),
        running=sum(len(app.containers) for app in apps.apps),
        live=sum(app.state is not AppState.STOPPED for app in apps.apps),
    )
    return Part(title="Home", body=body, live_s=LIVE_S, tag=tag)


def _rows(app: AppStatus, traffic: dict[tuple[str, str], Recent]) -> Iterator[Row]:
    endpoints = app.endpoints or (None,)
    for endpoint in endpoints:
        tag = endpoint.tag if endpoint else ""
        recent_traffic = traffic.get((app.name, tag), Recent())
        yield Row(
            id=f"{app.app_id}-{tag}",
            app=app,
            endpoint=endpoint,
            state=state(app, endpoint),
            problem=problem(app, endpoint, recent_traffic),
            recent=recent_traffic,
        )


def state(app: AppStatus, endpoint: EndpointStatus | None) -> str:
    """Return the state of an endpoint as one word for people."""
    if app.state in (AppState.STOPPED, AppState.BROKEN) or endpoint is None:
        return app.state.value
    if endpoint.queued and not endpoint.containers:
        return "starting"
    if endpoint.containers:
        return "ready" if app.state is AppState.DEPLOYED else "serving"
    return "asleep"


def problem(app: AppStatus, endpoint: EndpointStatus | None, recent_traffic: Recent) -> str:
    """Return the problem of an endpoint, and where the visitor can look; empty if there is none."""
    if app.state is AppState.BROKEN:
        return app.reason or "it could not be served again after a restart"
    if endpoint is None:
        return ""
    if endpoint.certificate == "failed":
        return f"no certificate: {endpoint.certificate_error}"
    if endpoint.stolen:
        return "a later session has its URL"
    if recent_traffic.errors:
        return f"{recent_traffic.errors} of {recent_traffic.requests} requests failed in the last minutes"
    if endpoint.failed_starts and not endpoint.containers and endpoint.queued:
        return "its containers do not start: see the log"
    return ""


PAGES = (Page(path="/", handler=home),)
