"""Logs, as they are written."""

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from homeport.contract.api.apps import AppList
from homeport.contract.api.logs import LogQuery
from homeport.contract.errors import Failure
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, segment

TAIL = 300


async def logs(visit: Visit) -> Part:
    """Show the log of an app."""
    apps = (await visit.api.get(AppList, "/v1/apps")).apps
    names = sorted({app.name for app in apps})
    name = visit.asked("app") or next(iter(names), "")
    containers = [each for app in apps if app.name == name for each in app.containers]
    body = render.template("logs", visit=visit, names=names, name=name, containers=containers)
    return Part(title="Logs", body=body)


async def stream(visit: Visit) -> Response:
    """Pass lines of a log on, one JSON object each, until the visitor leaves."""
    wanted = LogQuery(
        tail=TAIL,
        follow=True,
        function=visit.asked("function"),
        container=visit.asked("container"),
        request=visit.asked("request"),
        since=visit.moment("since"),
    )
    path = f"/v1/apps/{segment(visit.asked('app'))}/logs"
    following = visit.api.stream(path, wanted)
    answer = await following.__aenter__()

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_raw():
                yield piece
        except (Failure, OSError):
            return  # the page follows again
        finally:
            await following.__aexit__(None, None, None)

    return StreamingResponse(lines(), media_type="application/x-ndjson")


PAGES = (Page(path="/logs", handler=logs), Page(path="/logs/stream", handler=stream))
