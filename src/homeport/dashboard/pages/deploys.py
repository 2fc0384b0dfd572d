"""Apps and their versions: which one serves, which served before, and the rollback to it."""

import asyncio
import json

from starlette.responses import Response

from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.api.apps import (
    AppList,
    AppStatus,
    Changes,
    ChangesQuery,
    History,
    Stopped,
)
from homeport.contract.api.coldstarts import ColdStartList, ColdStartQuery
from homeport.contract.api.deploys import Deployed, DeployList, DeployQuery, Rollback
from homeport.contract.errors import BadRequest, NotFound
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, segment, whole

PATIENCE_S = 0.4


async def deploys(visit: Visit) -> Part:
    """Show the deploys, with their users and results."""
    listed, apps = await asyncio.gather(
        visit.api.get(DeployList, "/v1/deploys", DeployQuery(tail=100)),
        visit.api.get(AppList, "/v1/apps"),
    )
    body = render.template(
        "deploys",
        visit=visit,
        deploys=listed.deploys,
        apps=sorted(apps.apps, key=lambda app: app.name),
        serving={app.name: app.version for app in apps.apps if app.stopped_at is None},
    )
    return Part(title="Deploys", body=body, live_s=2.0)


async def progress(visit: Visit) -> Part:
    """Show one deploy: what it did so far, and why it failed."""
    number = visit.number("id")
    listed = await visit.api.get(DeployList, "/v1/deploys", DeployQuery(tail=1000))
    record = next((deploy for deploy in listed.deploys if deploy.id == number), None)
    if record is None:
        raise NotFound("this deploy is not in the history any more")
    printed, fault = await _progress(visit, number)
    body = render.template("deploy", visit=visit, d=record, told=printed, fault=fault)
    is_running = record.result == "running"
    return Part(title=f"{record.kind} of {record.app}", body=body, live_s=1.0 if is_running else 0)


async def _progress(visit: Visit, number: int) -> tuple[list[str] | None, Fault | None]:
    """Return the lines of a deploy up to now, and its error; None if they are no longer kept."""
    printed: list[str] = []
    try:
        # The stream lasts as long as the deploy, and the page asks again: so take what arrives in a moment.
        async with asyncio.timeout(PATIENCE_S):
            async with visit.api.stream(f"/v1/deploys/{number}/progress") as answer:
                async for line in answer.aiter_lines():
                    event = events.read(json.loads(line)) if line else None
                    if isinstance(event, events.Error):
                        return printed, event.error
                    printed += _lines(event)
    except TimeoutError:
        pass
    except NotFound:
        return None, None
    return printed, None


def _lines(event: events.Event | None) -> list[str]:
    if isinstance(event, events.Progress):
        return [event.text]
    return [event.line.text] if isinstance(event, events.Log) else []


async def changes(visit: Visit) -> Part:
    """Show what differs between two versions of an app."""
    name = visit.parameter("name")
    versions = ChangesQuery(before=visit.number("before"), after=visit.number("after"))
    difference = await visit.api.get(Changes, f"/v1/apps/{segment(name)}/changes", versions)
    body = render.template("changes", visit=visit, c=difference)
    return Part(title=f"{name}: v{difference.before} to v{difference.after}", body=body)


async def app(visit: Visit) -> Part:
    """Show one app."""
    name = visit.parameter("name")
    path = f"/v1/apps/{segment(name)}"
    status = await visit.api.get(AppStatus, path)
    history, starts = await asyncio.gather(
        _history(visit, status),
        visit.api.get(ColdStartList, f"{path}/cold-starts", ColdStartQuery(tail=20)),
    )
    body = render.template(
        "app",
        visit=visit,
        app=status,
        revisions=history.revisions,
        starts=reversed(starts.cold_starts),
    )
    return Part(title=name, body=body, live_s=5.0)


async def _history(visit: Visit, status: AppStatus) -> History:
    if not status.version:  # a session has no versions
        return History(revisions=())
    return await visit.api.get(History, f"/v1/apps/{segment(status.name)}/history")


async def rollback(visit: Visit) -> Part:
    """Deploy an earlier version again, and show what happened meanwhile."""
    form = await visit.form()
    name, version = form.get("name", ""), form.get("version", "")
    if version and whole(version) is None:
        raise BadRequest("`version` is a number")
    path = f"/v1/apps/{segment(name)}/rollback"
    body = Rollback(version=whole(version))
    printed: list[str] = []
    end: events.Event | None = None
    async with visit.api.stream(path, method="POST", body=body) as answer:
        async for line in answer.aiter_lines():
            event = events.read(json.loads(line)) if line else None
            printed += _lines(event)
            if isinstance(event, (events.Done, events.Error)):
                end = event
    if isinstance(end, events.Error):
        raise end.error.failure()
    shown = render.template("done", visit=visit, name=name, told=printed, end=end)
    return Part(title=f"{name} was rolled back", body=shown)


async def promote(visit: Visit) -> Response:
    """Let an app's canary serve all of its requests."""
    name = (await visit.form()).get("name", "")
    await visit.api.post(Deployed, f"/v1/apps/{segment(name)}/promote")
    return visit.to("/app", name=name)


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
    Page(path="/deploy", handler=progress),
    Page(path="/app", handler=app),
    Page(path="/app/changes", handler=changes),
    Page(path="/app/rollback", handler=rollback, method="POST"),
    Page(path="/app/promote", handler=promote, method="POST"),
    Page(path="/app/stop", handler=stop, method="POST"),
    Page(path="/container/stop", handler=stop_container, method="POST"),
)
