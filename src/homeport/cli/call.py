"""`homeport call …`: the calls that `.spawn` made."""

import asyncio
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.contract import names
from homeport.contract.api.spawned import CallsQuery, CancelQuery, StoredCall
from homeport.settings import Settings

app = typer.Typer(help="Spawned calls: list, show, cancel.", no_args_is_help=True)

CallId = Annotated[str, typer.Argument(metavar="CALL", help="The call's id, `fc-…`.")]


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(metavar="[APP]", help="Of one app.")] = "",
    state: Annotated[
        str, typer.Option(help="waiting, running, done, failed or cancelled.", show_default=False)
    ] = "",
    n: Annotated[int, typer.Option("-n", "--tail", min=1, help="How many.")] = 20,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """List calls, the newest first."""
    asyncio.run(
        _list(
            options.load(environment=environment),
            CallsQuery(app=name, state=state, tail=n),
            json=json,
        )
    )


@app.command()
def show(call: CallId, json: options.Json = False, environment: options.Environment = None) -> None:
    """Show a call, and the calls that it has made."""
    asyncio.run(_show(options.load(environment=environment), call, json=json))


@app.command()
def cancel(
    call: CallId,
    terminate: Annotated[bool, typer.Option(help="End the containers that run it, too.")] = False,
    environment: options.Environment = None,
) -> None:
    """Cancel a call; inputs that have ended keep their outcome."""
    asyncio.run(_cancel(options.load(environment=environment), call, terminate=terminate))


async def _list(settings: Settings, query: CallsQuery, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.spawned.every(query)
    if json:
        output.show_json(listed)
        return
    _table(listed)


async def _show(settings: Settings, call: str, *, json: bool) -> None:
    async with server.running(settings) as client:
        info = await client.spawned.one(call)
        children = await client.spawned.children(call)
    if json:
        output.show_json(info)
        return
    _table(info.inputs)
    if children:
        output.say("It has made:")
        _table(children)


async def _cancel(settings: Settings, call: str, *, terminate: bool) -> None:
    async with server.running(settings) as client:
        await client.spawned.cancel(call, CancelQuery(terminate=terminate))
    output.say(f"✓ Cancelled `{call}`.")


def _table(calls: tuple[StoredCall, ...]) -> None:
    rows = [
        (
            stored.id,
            names.endpoint(stored.app, stored.function),
            stored.state,
            stored.attempt + 1,
            stored.container,
            output.local_time(stored.created_at),
            stored.note
            or (stored.outcome if stored.outcome not in ("value", stored.state) else ""),
        )
        for stored in calls
    ]
    columns = ("Call", "Function", "State", "Attempt", "Container", "Created at", "Note")
    output.show_table(columns, rows, empty="no call")
