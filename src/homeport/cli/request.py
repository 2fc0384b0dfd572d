"""`homeport request …`: the requests and calls that have ended."""

import asyncio
import dataclasses
import re
import time
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.cli.endpoint import parts
from homeport.cli.image import size
from homeport.contract import names
from homeport.contract.api.requests import LiveQuery, RecordedRequest, RequestQuery
from homeport.contract.errors import BadRequest
from homeport.settings import Settings

app = typer.Typer(help="Requests that have ended: list, show, replay.", no_args_is_help=True)

#: Of the columns while requests are followed, of which the longest is not known.
FOLLOWED_WIDTHS = (19, 20, 4, 15, 30, 12, 7, 4, 0)
UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}

Id = Annotated[
    str,
    typer.Argument(metavar="REQUEST", help="Its `X-Request-Id`, or the `fc-…` of a response."),
]


@app.command("list")
def list_(
    name: Annotated[
        str, typer.Argument(metavar="[APP[.FUNCTION]]", help="Of one app, or one function.")
    ] = "",
    n: Annotated[int, typer.Option("-n", "--tail", min=1, help="How many of the last.")] = 20,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Wait for more; with --json, one a line.")
    ] = False,
    status: Annotated[str, typer.Option(help="404, or 5xx for all from 500 to 599.")] = "",
    since: Annotated[str, typer.Option(help="Ended since a time, or 30m, 2h, 1d ago.")] = "",
    until: Annotated[str, typer.Option(help="Ended before a time, or 30m, 2h, 1d ago.")] = "",
    slower: Annotated[str, typer.Option(help="Took at least 500ms, 2s, 1m.")] = "",
    method: Annotated[str, typer.Option(help="GET, POST …")] = "",
    path: Annotated[str, typer.Option(help="The path begins with this.")] = "",
    container: Annotated[str, typer.Option(help="Answered by this container.")] = "",
    trace: Annotated[str, typer.Option(help="Of this trace, by its id.")] = "",
    cold: Annotated[bool, typer.Option("--cold", help="Had to wait for a container.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Answered with 5xx, or cut off.")
    ] = False,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """List the last requests and calls, the newest last."""
    app_name, tag = parts(name)
    now = time.time()
    query = RequestQuery(
        tail=n,
        app=app_name,
        tag=tag,
        container=container,
        method=method,
        path=path,
        status=status,
        since=options.moment(since, now),
        until=options.moment(until, now),
        slower=_milliseconds(slower) if slower else 0,
        trace=trace,
        cold=cold,
        failed=failed,
    )
    settings = options.load(environment=environment)
    if follow:
        if since or until:
            raise BadRequest("--follow is for requests from now on, without --since and --until")
        wanted = [field.name for field in dataclasses.fields(LiveQuery)]
        live = LiveQuery(**{name: getattr(query, name) for name in wanted})
        asyncio.run(_follow(settings, live, json=json))
        return
    asyncio.run(_list(settings, query, json=json))


@app.command()
def show(request: Id, json: options.Json = False, environment: options.Environment = None) -> None:
    """Show where a request's time went, and what was printed for it."""
    asyncio.run(_show(options.load(environment=environment), _id(request), json=json))


@app.command()
def replay(
    request: Id,
    to: Annotated[
        str,
        typer.Option(help="v3, `session` for `homeport serve`, or a URL; the deployed version."),
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option(help="A field to send too, such as 'Authorization: …'.")
    ] = None,
    yes: options.Yes = False,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Send a captured request again, and show how the answer differs (`homeport capture`)."""
    from homeport.cli import replay as replaying

    settings = options.load(environment=environment)
    asyncio.run(
        replaying.replay(settings, _id(request), to=to, headers=header or (), yes=yes, as_json=json)
    )


async def _list(settings: Settings, query: RequestQuery, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.requests.every(query)
    if json:
        output.show_json(listed)
        return
    columns = (
        "When",
        "Function",
        "Version",
        "Container",
        "Request",
        "Ended",
        "Took",
        "",
        "Id",
    )
    output.show_table(columns, map(_row, listed), empty="no request is recorded that fits")


def _row(request: RecordedRequest) -> tuple[str, ...]:
    title = f"{request.method} {request.path}{_query(request)}"
    return (
        output.local_time(request.at),
        names.endpoint(request.app, request.tag),
        _version(request),
        request.container or "-",
        "call" if request.kind == "call" else title,
        request.ended or f"{request.status}",
        output.duration(request.total_ms),
        "cold" if request.cold else "",
        request.id,
    )


async def _follow(settings: Settings, query: LiveQuery, *, json: bool) -> None:
    async with server.running(settings) as client:
        async for ended in client.requests.live(query):
            for request in ended.requests:
                if json:
                    output.show_json(request)
                else:
                    output.show_row(_row(request), FOLLOWED_WIDTHS)
            if ended.lost:
                output.warn(f"{output.counted(ended.lost, 'request')} came too fast to be shown")


async def _show(settings: Settings, request: str, *, json: bool) -> None:
    async with server.running(settings) as client:
        detail = await client.requests.one(request)
    if json:
        output.show_json(detail)
        return
    from homeport.cli import waterfall

    output.out().print("\n".join(lines_of(detail.request)))
    output.out().print()
    waterfall.show(detail)


def lines_of(request: RecordedRequest) -> list[str]:
    """Return a request and its end as lines for people."""
    title = f"{request.method} {request.path}{_query(request)}"
    if request.kind == "call":
        title = "call"
    version = f" {_version(request)}" if request.version else ""
    where = f" on {request.node}" if request.node else ""
    sizes = f"{size(request.received_bytes)} in, {size(request.sent_bytes)} out"
    lines = [
        f"{title} -> {_ended(request)}",
        f"{names.endpoint(request.app, request.tag)}{version} {request.container or '(no container)'}{where}, {request.id}",
        f"{output.local_time(request.at)}, {output.duration(request.total_ms)}, {sizes}",
    ]
    if request.client:
        lines.append(f"from {request.client}")
    if request.trace:
        lines.append(f"trace {request.trace}")
    return lines


def _ended(request: RecordedRequest) -> str:
    status = output.status_text(request.status, none="no response")
    return f"{status}, {request.ended}" if request.ended else status


def _version(request: RecordedRequest) -> str:
    return f"v{request.version}" if request.version else ""


def _query(request: RecordedRequest) -> str:
    return f"?{request.query}" if request.query else ""


def _milliseconds(text: str) -> int:
    """Return a length of time as milliseconds.

    >>> [_milliseconds(text) for text in ("500ms", "2s", "1.5m")]
    [500, 2000, 90000]
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)(ms|s|m|h)", text)
    if match is None:
        raise BadRequest(f"`{text}` is not a length of time", hint="write 500ms, 2s or 1m")
    return round(float(match[1]) * UNITS_MS[match[2]])


def _id(text: str) -> str:
    """Return the id in what a response's field or a log has.

    >>> _id("fc-1b0c"), _id("in-1b0c"), _id("1b0c")
    ('1b0c', '1b0c', '1b0c')
    """
    return text.removeprefix("fc-").removeprefix("in-")
