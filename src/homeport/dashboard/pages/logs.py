"""Logs; an open page keeps asking for new lines."""

from starlette.responses import Response

from homeport.contract.api.apps import AppList
from homeport.contract.api.logs import LogQuery
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, segment
from homeport.dashboard.pages.passing import Passing

TAIL, MORE = 300, 2000  # lines at first, and since the last time


async def logs(visit: Visit) -> Part:
    """Show the log of an app."""
    apps = (await visit.api.get(AppList, "/v1/apps")).apps
    names = sorted({app.name for app in apps})
    name = visit.parameter("app") or next(iter(names), "")
    containers = [container for app in apps if app.name == name for container in app.containers]
    body = render.template("logs", visit=visit, names=names, name=name, containers=containers)
    return Part(title="Logs", body=body)


async def lines(visit: Visit) -> Response:
    """Pass lines of a log on, one JSON object each: those since a moment, or the last ones.

    An open page asks again and again. If it held a request open here, the server would stay as busy as for a busy app.
    """
    since = visit.moment("since")
    log_query = LogQuery(
        tail=MORE if since else TAIL,
        function=visit.parameter("function"),
        container=visit.parameter("container"),
        request=visit.parameter("request"),
        since=since,
    )
    path = f"/v1/apps/{segment(visit.parameter('app'))}/logs"
    reading = visit.api.stream(path, log_query)
    answer = await reading.__aenter__()

    return Passing(answer, reading, media_type="application/x-ndjson")


PAGES = (Page(path="/logs", handler=logs), Page(path="/logs/lines", handler=lines))
