"""Apps and their versions: what serves, what served before, and the way back."""

import asyncio
import json
import time

from starlette.responses import Response

from homeport.contract.api import events
from homeport.contract.api.apps import AppList, AppStatus, History, Stopped
from homeport.contract.api.coldstarts import ColdStartList, ColdStartQuery
from homeport.contract.api.deploys import Rollback
from homeport.contract.api.series import Series, SeriesQuery
from homeport.contract.errors import BadRequest
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, segment

BACK_S = 30 * 86400.0


async def deploys(visit: Visit) -> Part:
    """Show what was deployed in the last 30 days."""
    asked = SeriesQuery(since=time.time() - BACK_S, step_s=3600)
    series, apps = await asyncio.gather(
        visit.api.get(Series, "/v1/series", asked), visit.api.get(AppList, "/v1/apps")
    )
    body = render.template(
        "deploys",
        visit=visit,
        deploys=sorted(series.deploys, key=lambda each: -each.at),
        apps=sorted(apps.apps, key=lambda app: app.name),
        serving={app.name: app.version for app in apps.apps if app.stopped_at is None},
    )
    return Part(title="Deploys", body=body, live_s=5.0)


async def app(visit: Visit) -> Part:
    """Show one app."""
    name = visit.asked("name")
    path = f"/v1/apps/{segment(name)}"
    found = await visit.api.get(AppStatus, path)
    history, starts = await asyncio.gather(
        _history(visit, found),
        visit.api.get(ColdStartList, f"{path}/cold-starts", ColdStartQuery(tail=20)),
    )
    body = render.template(
        "app",
        visit=visit,
        app=found,
        revisions=history.revisions,
        starts=reversed(starts.cold_starts),
    )
    return Part(title=name, body=body, live_s=5.0)


async def _history(visit: Visit, found: AppStatus) -> History:
    if not found.version:  # a session has no versions
        return History(revisions=())
    return await visit.api.get(History, f"/v1/apps/{segment(found.name)}/history")


async def rollback(visit: Visit) -> Part:
    """Deploy an earlier version again, and show what happened meanwhile."""
    form = await visit.form()
    name, version = form.get("name", ""), form.get("version", "")
    if not version.isdigit():
        raise BadRequest("`version` is a number")
    path = f"/v1/apps/{segment(name)}/rollback"
    body = Rollback(version=int(version))
    told: list[str] = []
    end: events.Event | None = None
    async with visit.api.stream(path, method="POST", body=body) as answer:
        async for line in answer.aiter_lines():
            event = events.read(json.loads(line)) if line else None
            if isinstance(event, events.Progress):
                told.append(event.text)
            elif isinstance(event, events.Log):
                told.append(event.line.text)
            elif event is not None:
                end = event
    if isinstance(end, events.Error):
        raise end.error.failure()
    shown = render.template("done", visit=visit, name=name, told=told, end=end)
    return Part(title=f"{name} was rolled back", body=shown)


async def stop(visit: Visit) -> Response:
    """Stop an app."""
    name = (await visit.form()).get("name", "")
    await visit.api.post(Stopped, f"/v1/apps/{segment(name)}/stop")
    return visit.to("/app", name=name)


async def stop_container(visit: Visit) -> Response:
    """Stop a container; another one starts if it is needed."""
    form = await visit.form()
    await visit.api.raw("POST", f"/v1/containers/{segment(form.get('id', ''))}/stop")
    return visit.to("/app", name=form.get("name", ""))


PAGES = (
    Page(path="/deploys", handler=deploys),
    Page(path="/app", handler=app),
    Page(path="/app/rollback", handler=rollback, method="POST"),
    Page(path="/app/stop", handler=stop, method="POST"),
    Page(path="/container/stop", handler=stop_container, method="POST"),
)
