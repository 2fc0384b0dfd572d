"""`homeport alert …`: tells a webhook when something is wrong."""

import asyncio
import re
from typing import Annotated

import typer

from homeport.cli import endpoint, options, output, server
from homeport.contract import names
from homeport.contract.errors import BadRequest, Failure
from homeport.settings import Settings

app = typer.Typer(
    help="Alerts, which tell a webhook what is wrong: list, add, remove, test.",
    no_args_is_help=True,
)

#: How limits are written, by kind: the unit, and how many of the API's unit that is.
UNITS = {
    "errors": {"%": 1.0, "": 1.0},
    "latency": {"ms": 1.0, "s": 1000.0},
    "starts": {"": 1.0},
    "canary": {"": 1.0},
    "disk": {"%": 1.0, "": 1.0},
    "certificate": {"d": 1.0, "": 1.0},
    "machine": {"": 1.0},
}
SHOWN = {
    "errors": "%",
    "latency": "ms",
    "starts": "",
    "canary": "",
    "disk": "%",
    "certificate": "d",
    "machine": "",
}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The alert's name.")]


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List alerts, and which of them fire."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def add(
    name: Name,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="errors, latency, starts, canary, disk, certificate or machine."
        ),
    ],
    webhook: Annotated[str, typer.Option(metavar="URL", help="Where it is told, by POST.")],
    of: Annotated[
        str, typer.Option("--app", metavar="APP[.FUNCTION]", help="Of one app, or one function.")
    ] = "",
    limit: Annotated[
        str,
        typer.Option(
            help="Such as 5% (errors), 800ms (latency), 3 (starts), 90% (disk), 7d (certificate), 1 (machine)."
        ),
    ] = "",
    within: Annotated[str, typer.Option(help="How far it looks back: 1m to 60m.")] = "5m",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Tell a webhook when requests fail or are slow, containers do not start, a canary is rolled back, the disk is full, a certificate ends, or a machine does not answer."""
    from homeport.contract.api.alerts import NewAlert

    app_name, tag = endpoint.parts(of)
    alert = NewAlert(
        name=name,
        kind=kind,
        url=webhook,
        app=app_name,
        tag=tag,
        limit=_limit(kind, limit) if limit else None,
        window_s=_window(within),
    )
    asyncio.run(_add(options.load(environment=environment), alert, json=json))


@app.command()
def remove(name: Name, yes: options.Yes = False, environment: options.Environment = None) -> None:
    """Remove an alert."""
    asyncio.run(_remove(options.load(environment=environment), name, yes=yes))


@app.command("test")
def try_(name: Name, environment: options.Environment = None) -> None:
    """Send a message that says that it is a test."""
    asyncio.run(_test(options.load(environment=environment), name))


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        alerts = await client.alerts.every()
    if json:
        output.show_json(alerts)
        return
    rows = [
        (
            alert_row.name,
            alert_row.state,
            output.local_time(alert_row.since),
            alert_row.kind,
            names.endpoint(alert_row.app, alert_row.tag),
            f"{alert_row.limit:g}{SHOWN.get(alert_row.kind, '')}",
            alert_row.text,
            alert_row.target,
            f"{alert_row.waiting} not delivered: {alert_row.error}" if alert_row.waiting else "",
        )
        for alert_row in alerts
    ]
    columns = ("Name", "State", "Since", "Kind", "Of", "Limit", "Found", "Webhook", "")
    output.show_table(columns, rows, empty="there is no alert: `homeport alert add`")


async def _add(settings: Settings, alert: object, *, json: bool) -> None:
    from homeport.contract.api.alerts import NewAlert

    assert isinstance(alert, NewAlert)
    async with server.running(settings) as client:
        added = await client.alerts.add(alert)
    if json:
        output.show_json(added)
        return
    output.say(f"✓ `{added.alert.name}` tells {added.alert.target}")
    output.say("the key of `Homeport-Signature`, which is not shown again:")
    output.out().print(added.secret)


async def _remove(settings: Settings, name: str, *, yes: bool) -> None:
    async with server.running(settings) as client:
        options.confirm(f"Remove the alert `{name}`?", yes=yes)
        await client.alerts.remove(name)
    output.say(f"✓ the alert `{name}` is removed")


async def _test(settings: Settings, name: str) -> None:
    async with server.running(settings) as client:
        result = await client.alerts.test(name)
    if not result.delivered:
        raise Failure(f"the message was not delivered: {result.error}")
    output.say("✓ the message was delivered")


def _limit(kind: str, text: str) -> float:
    """Return a limit in the API's unit.

    >>> _limit("errors", "2.5%"), _limit("latency", "2s"), _limit("certificate", "14d")
    (2.5, 2000.0, 14.0)
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(%|ms|s|d|)", text)
    units = UNITS.get(kind, {})
    if match is None or (units and match[2] not in units):
        raise BadRequest(
            f"`{text}` is no limit of `{kind}`", hint="see `homeport alert add --help`"
        )
    return float(match[1]) * units.get(match[2], 1.0)


def _window(text: str) -> float:
    from homeport.contract import durations

    try:
        return durations.seconds(text)
    except ValueError as error:
        raise BadRequest(f"--within is {text!r}: {error}") from None
