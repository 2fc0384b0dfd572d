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
            certificate.host,
            certificate.source.partition(":")[0],
            certificate.state,
            _time(certificate.valid_until),
            _time(certificate.next_try or certificate.renew_at),
            certificate.error,
        )
        for certificate in listed
    ]
    columns = ("Host", "Source", "State", "Valid until", "Next order", "Error")
    output.show_table(columns, table, empty="no certificate")
    for hint in dict.fromkeys(certificate.hint for certificate in listed if certificate.hint):
        output.say(f"hint: {hint}")


async def _renew(settings: Settings, host: str, *, json: bool) -> None:
    async with server.running(settings) as client:
        expiry = await client.certificates.renew(host)
    if json:
        output.show_json(expiry)
        return
    if expiry.next_try is not None and expiry.next_try > time.time():
        output.say(
            f"! The order for {expiry.host} waits until {_time(expiry.next_try)}: {expiry.error}"
        )
        return
    output.say(
        f"✓ The certificate of {expiry.host} is being ordered; `homeport certificate list` shows it"
    )


def _time(at: float | None) -> str:
    return "" if at is None else output.local_time(at)
