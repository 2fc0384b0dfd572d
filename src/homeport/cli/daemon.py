"""`homeport up`, `down`, `status`: the background server."""

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from homeport import settings as all_settings
from homeport.cli import live, options, output, server
from homeport.contract.errors import BadRequest
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.server import Status


def up(
    host: options.Host = None,
    http_port: options.HttpPort = None,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground",
            help="Stay, start the server again when it ends, and end it with Ctrl-C.",
        ),
    ] = False,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="Stay, and take over when the server of this home has ended or lost its database.",
        ),
    ] = False,
) -> None:
    """Start the background server, which serves every deployed app again."""
    if foreground or standby:
        raise typer.Exit(_stay(host, http_port, standby=standby))
    asyncio.run(_up(options.load(host=host, http_port=http_port)))


def _stay(host: str | None, http_port: int | None, *, standby: bool) -> int:
    """Run a server in the foreground; it reads its settings itself, so flags become variables.

    A profile that is in use here is for commands.
    """
    from homeport.cli import foreground

    if os.environ.get("HOMEPORT_SERVER"):
        raise BadRequest("a server runs on the machine where it is started: unset HOMEPORT_SERVER")
    options.warn_unknown()
    flags = {"HOMEPORT_HOST": host, "HOMEPORT_HTTP_PORT": http_port}
    variables = {name: str(value) for name, value in flags.items() if value is not None}
    environ = {**os.environ, **variables}
    return foreground.run(all_settings.of_server(environ).home, environ, standby=standby)


def down(yes: options.Yes = False) -> None:
    """Stop the background server and all containers, on other machines too; `up` serves deployed apps again.

    It asks before it stops a server on another machine.
    """
    settings = options.load()
    unreached: list[str] = []
    if settings.server:
        options.confirm(
            f"Stop the server at {settings.server}, with every app of everybody there? "
            "Only a command on its machine starts it again.",
            yes=yes,
        )
    with live.line("stopping the server and its containers"):
        ended = asyncio.run(server.down(settings, unreached))
    for name in unreached:
        output.warn(
            f"the machine `{name}` did not answer: containers that it runs continue until its agent ends, "
            "or finds a server here again"
        )
    output.say("homeport is down" if ended else "no server was running")


def status(json: options.Json = False) -> None:
    """Show the server, its apps and its containers."""
    asyncio.run(_status(options.load(), json=json))


async def _up(settings: Settings) -> None:
    async with server.background(settings) as client:
        status = await client.server.status()
    output.out().print(f"homeport is up: {output.address(status)} (pid {status.pid})")
    for app in status.apps:
        output.show_endpoints(app.endpoints)
    _warn(status)


def _warn(status: "Status") -> None:
    if status.trouble:
        output.warn(f"the database cannot be read: {status.trouble}")
    for app in status.apps:
        if app.state == "broken":
            output.warn(f"`{app.name}` cannot be served: {app.reason}; it is tried again")


async def _status(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        status = await client.server.status()
        findings = () if json else await client.alerts.findings()
    if json:
        output.show_json(status)
        return
    for finding in findings:
        if finding.needed:
            output.warn(f"{finding.what}: {finding.text}")
    keeps = "in the background" if status.kept else "for a `homeport serve`"
    output.out().print(
        f"homeport {status.version} on {output.address(status)}, {keeps}, "
        f"pid {status.pid}, for {output.ago(status.started_at)}"
    )
    if status.nodes:
        states = (f"`{name}` is {state}" for name, state in sorted(status.nodes.items()))
        output.out().print(f"with other machines: {', '.join(states)}")
    for app in status.apps:
        if app.canary is not None and app.canary.ended_at is None:
            output.out().print(
                f"`{app.name}`: v{app.canary.version} gets {app.canary.percent:g}% of the requests beside "
                f"v{app.canary.before}; `homeport app canary {app.name}` shows how it does"
            )
    rows = [
        (
            app.name,
            app.state.value,
            endpoint.tag,
            endpoint.containers,
            endpoint.running,
            endpoint.queued,
            endpoint.served,
            endpoint.errors,
            endpoint.cold_starts,
            endpoint.p50_ms,
            endpoint.p99_ms,
            output.local_time(next_runs.get(endpoint.function)),
            endpoint.url or "by .remote()",
        )
        for app in status.apps
        for next_runs in [{function.name: function.next_run for function in app.functions}]
        for endpoint in app.endpoints
    ]
    columns = (
        "App", "State", "Function", "Containers", "Running", "Queued", "Served", "Errors",
        "Cold starts", "p50 ms", "p99 ms", "Next run", "URL",
    )  # fmt: skip
    none = "no app serves" if status.apps else "no app is deployed: `homeport deploy script.py`"
    output.show_table(columns, rows, empty=none)
