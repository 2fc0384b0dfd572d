"""`homeport certificate …`: lists the certificates of hosts, and renews one."""

import asyncio
import time
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.settings import Settings

app = typer.Typer(help="Certificates: list, renew.", no_args_is_help=True)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the hosts with their certificates: until when each is valid, and why one is missing."""
    asyncio.run(_list(options.load(), json=json))


@app.command()
def renew(
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host that the list has.")],
    json: options.Json = False,
) -> None:
    """Order a host's certificate now, also if its last order failed."""
    asyncio.run(_renew(options.load(), host, json=json))


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.certificates.every()
    if json:
        output.show_json(listed)
        return
    table = [
        (
            each.host,
            each.source.partition(":")[0],
            each.state,
            _time(each.valid_until),
            _time(each.next_try or each.renew_at),
            each.error,
        )
        for each in listed
    ]
    columns = ("Host", "Source", "State", "Valid until", "Next order", "Error")
    output.show_table(columns, table, empty="no certificate")
    for hint in dict.fromkeys(each.hint for each in listed if each.hint):
        output.say(f"hint: {hint}")


async def _renew(settings: Settings, host: str, *, json: bool) -> None:
    async with server.running(settings) as client:
        told = await client.certificates.renew(host)
    if json:
        output.show_json(told)
        return
    if told.next_try is not None and told.next_try > time.time():
        output.say(f"! The order for {told.host} waits until {_time(told.next_try)}: {told.error}")
        return
    output.say(
        f"✓ The certificate of {told.host} is being ordered; `homeport certificate list` shows it"
    )


def _time(at: float | None) -> str:
    return "" if at is None else output.local_time(at)
