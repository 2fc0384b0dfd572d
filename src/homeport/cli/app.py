"""`homeport app …`: lists apps, shows their logs and cold starts, stops them, rolls them back."""

import asyncio
import re
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from homeport.cli import coldstarts, live, options, output, server
from homeport.cli.deploy import follow
from homeport.contract.api.apps import AppState, ChangesQuery, FunctionStatus
from homeport.contract.api.coldstarts import ColdStartQuery
from homeport.contract.api.deploys import DeployQuery, Rollback
from homeport.contract.api.logs import LogQuery
from homeport.contract.api.series import SeriesQuery
from homeport.settings import Settings

app = typer.Typer(
    help="Apps: list, logs, cold-starts, stop, history, deploys, diff, stats, rollback, canary, promote.",
    no_args_is_help=True,
)

AppName = Annotated[str, typer.Argument(metavar="APP", help="The app's name.")]
MAX_TAIL = 20_000


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List all apps: deployed, served and stopped."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def logs(
    name: AppName,
    follow: options.Follow = False,
    tail: Annotated[
        int, typer.Option("-n", "--tail", min=1, max=MAX_TAIL, help="How many of the last lines.")
    ] = 100,
    since: Annotated[str, typer.Option(help="Lines since a time, or 30m, 2h, 1d ago.")] = "",
    function: Annotated[str, typer.Option(help="Lines of this function only.")] = "",
    container: Annotated[str, typer.Option(help="Lines of this container only.")] = "",
    request: Annotated[str, typer.Option(help="Lines for this X-Request-Id only.")] = "",
    timestamps: options.Timestamps = False,
    environment: options.Environment = None,
) -> None:
    """Show the lines that an app's containers have printed."""
    request = request.removeprefix("in-").removeprefix("fc-")
    query = LogQuery(
        tail=tail,
        follow=follow,
        function=function,
        container=container,
        request=request,
        since=options.moment(since, time.time()),
    )
    asyncio.run(_logs(options.load(environment=environment), name, query, timestamps=timestamps))


@app.command("cold-starts")
def cold_starts(
    name: AppName,
    function: Annotated[str, typer.Option(help="Starts of this function only.")] = "",
    tail: Annotated[int, typer.Option("-n", "--tail", min=1, help="How many of the last.")] = 20,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Show how long each part of a container's start took, the newest start last."""
    query = ColdStartQuery(tail=tail, function=function)
    asyncio.run(_cold_starts(options.load(environment=environment), name, query, json=json))


@app.command()
def stop(name: AppName, yes: options.Yes = False, environment: options.Environment = None) -> None:
    """Stop an app: its containers end, and its URLs get 404."""
    asyncio.run(_stop(options.load(environment=environment), name, yes=yes))


@app.command()
def history(
    name: AppName, json: options.Json = False, environment: options.Environment = None
) -> None:
    """List an app's versions, the newest first."""
    from homeport.cli import history

    asyncio.run(history.history(options.load(environment=environment), name, json=json))


@app.command()
def deploys(
    name: Annotated[str, typer.Argument(metavar="[APP]", help="Of one app.")] = "",
    n: Annotated[int, typer.Option("-n", "--tail", min=1, help="How many of the last.")] = 20,
    watch: Annotated[
        int, typer.Option(metavar="ID", help="Show the progress of one that is still running.")
    ] = 0,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """List deploys, rollbacks and stops, also those that failed or are still running, the newest first."""
    from homeport.cli import history

    settings = options.load(environment=environment)
    if watch:
        asyncio.run(history.watch(settings, watch))
        return
    asyncio.run(history.deploys(settings, DeployQuery(app=name, tail=n), json=json))


@app.command()
def stats(
    name: Annotated[
        str, typer.Argument(metavar="[APP[.FUNCTION]]", help="Of one app, or one function.")
    ] = "",
    since: Annotated[str, typer.Option(help="Since a time, or 30m, 2h, 1d ago.")] = "1h",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Show requests, latency, containers, CPU and memory over some time."""
    from homeport.cli import stats
    from homeport.cli.endpoint import parts

    now = time.time()
    begin = options.moment(since, now)
    app_name, tag = parts(name)
    query = SeriesQuery(app=app_name, tag=tag, since=begin, step_s=stats.step_s(now - begin))
    asyncio.run(stats.stats(options.load(environment=environment), query, json=json))


@app.command()
def diff(
    name: AppName,
    before: Annotated[
        str, typer.Argument(metavar="[vN]", help="By default the version before the other one.")
    ] = "",
    after: Annotated[
        str, typer.Argument(metavar="[vN]", help="By default the newest version.")
    ] = "",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Show which files and settings differ between two versions."""
    from homeport.cli import history

    query = ChangesQuery(before=_number(before), after=_number(after))
    asyncio.run(history.diff(options.load(environment=environment), name, query, json=json))


@app.command()
def rollback(
    name: AppName,
    version: Annotated[
        str, typer.Argument(metavar="[vN]", help="By default the version before the current one.")
    ] = "",
    strategy: Annotated[str, typer.Option(help="rolling or recreate")] = "rolling",
    build_log: options.BuildLog = False,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Serve an earlier version again, as a new version; or end a canary."""
    number = _number(version) or None
    asyncio.run(
        _rollback(
            options.load(environment=environment),
            name,
            number,
            strategy=strategy,
            build_log=build_log,
            json=json,
        )
    )


@app.command()
def canary(
    name: AppName, json: options.Json = False, environment: options.Environment = None
) -> None:
    """Show how the version does that `deploy --canary` gives a part of the requests."""
    from homeport.cli import canary

    asyncio.run(canary.show(options.load(environment=environment), name, json=json))


@app.command()
def promote(
    name: AppName, json: options.Json = False, environment: options.Environment = None
) -> None:
    """Let an app's canary serve all requests now."""
    from homeport.cli import canary

    asyncio.run(canary.promote(options.load(environment=environment), name, json=json))


async def _list(settings: Settings, *, json: bool) -> None:
    from homeport.cli import canary as canaries

    async with server.running(settings) as client:
        apps = await client.apps.every()
    if json:
        output.show_json(apps)
        return
    rows = [
        (
            app.name,
            app.state.value,
            f"v{app.version}" if app.version else "",
            canaries.summary(app.canary),
            len(app.containers),
            sum(function.running for function in app.functions),
            sum(function.queued for function in app.functions),
            sum(function.cold_starts for function in app.functions),
            sum(function.errors for function in app.functions),
            _slowest(endpoint.p50_ms for endpoint in app.endpoints),
            _slowest(endpoint.p99_ms for endpoint in app.endpoints),
            output.local_time(_next_run(app.functions)),
            output.local_time(app.created_at),
            output.local_time(app.expires_at),
            output.local_time(app.stopped_at),
        )
        for app in apps
    ]
    columns = (
        "Name", "State", "Version", "Canary", "Containers", "Running", "Queued", "Cold starts", "Errors",
        "p50 ms", "p99 ms", "Next run", "Created at", "Expires at", "Stopped at",
    )  # fmt: skip
    output.show_table(columns, rows, empty="no app is deployed: `homeport deploy script.py`")


def _slowest(times_ms: Iterable[int | None]) -> int | None:
    return max((ms for ms in times_ms if ms is not None), default=None)


def _next_run(functions: Iterable[FunctionStatus]) -> float | None:
    return min((f.next_run for f in functions if f.next_run is not None), default=None)


async def _logs(settings: Settings, name: str, query: LogQuery, *, timestamps: bool) -> None:
    async with server.running(settings) as client:
        async for line in client.logs.read(name, query):
            output.show_line(line, timestamps=timestamps)


async def _cold_starts(settings: Settings, name: str, query: ColdStartQuery, *, json: bool) -> None:
    async with server.running(settings) as client:
        starts = await client.apps.cold_starts(name, query)
    if json:
        output.show_json(starts)
        return
    if not starts:
        subject = f"`{query.function}` of `{name}`" if query.function else f"`{name}`"
        output.say(f"no container of {subject} has started yet")
        return
    coldstarts.show(starts)


async def _stop(settings: Settings, name: str, *, yes: bool) -> None:
    async with server.running(settings) as client:
        status = await client.apps.one(name)
        if status.state is not AppState.STOPPED:
            count = len(status.containers)
            options.confirm(f"Stop `{name}` and its {output.counted(count, 'container')}?", yes=yes)
        with live.line(f"stopping `{name}`"):
            count = await client.apps.stop(name)
    output.say(f"✓ `{name}` is stopped; {output.counted(count, 'container')} ended")


def _number(version: str) -> int:
    """Return the number of a version; 0 for none."""
    if version and not re.fullmatch(r"v[1-9]\d{0,8}", version):
        raise typer.BadParameter(f"Invalid version specifier: {version} (write it as v3)")
    return int(version[1:]) if version else 0


async def _rollback(
    settings: Settings,
    name: str,
    version: int | None,
    *,
    strategy: str,
    build_log: bool,
    json: bool,
) -> None:
    from homeport.cli import canary as canaries

    builds = live.Builds(f"rolling `{name}` back", every=build_log, plain=json)
    async with server.running(settings) as client:
        order = Rollback(version=version, strategy=strategy)
        deployed = await follow(client.deploys.rollback(name, order), builds=builds)
    if json:
        output.show_json(deployed)
        return
    if deployed.canary is not None:
        canaries.show_ended(name, deployed.canary)
    else:
        output.say("✓ Deployment rollback successful!")
    output.out().print(f"{name} v{deployed.version}")
    output.show_endpoints(deployed.endpoints)
