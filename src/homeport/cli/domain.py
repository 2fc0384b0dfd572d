"""`homeport domain …`: domains of your own for the URLs of deployed apps."""

import asyncio
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.cli.endpoint import Endpoint, parts
from homeport.contract import names
from homeport.settings import Settings

app = typer.Typer(help="Custom domains: list, add, remove.", no_args_is_help=True)


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List all custom domains, and whether each leads to this server."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def add(
    domain: Annotated[
        str, typer.Argument(metavar="DOMAIN", help="Such as shop.example.com or *.example.com.")
    ],
    endpoint: Endpoint,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Attach a domain to a deployed app's URL, without a change of its code; it stays over redeploys."""
    asyncio.run(_add(options.load(environment=environment), domain, endpoint, json=json))


@app.command()
def remove(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain that was added.")],
    yes: options.Yes = False,
    environment: options.Environment = None,
) -> None:
    """Detach a domain that was added; its visitors get 404 from now on."""
    asyncio.run(_remove(options.load(environment=environment), domain, yes=yes))


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.domains.every()
    if json:
        output.show_json(listed)
        return
    table = [
        (
            domain_row.domain,
            names.endpoint(domain_row.app, domain_row.tag),
            "command" if domain_row.attached else "script",
            domain_row.dns,
            domain_row.certificate,
        )
        for domain_row in listed
    ]
    columns = ("Domain", "Endpoint", "By", "DNS", "Certificate")
    output.show_table(columns, table, empty="no custom domain")
    for domain_row in listed:
        if domain_row.problem:
            output.warn(domain_row.problem)


async def _add(settings: Settings, domain: str, endpoint: str, *, json: bool) -> None:
    app_name, tag = parts(endpoint)
    async with server.running(settings) as client:
        added = await client.domains.add(domain, app_name, tag)
    if json:
        output.show_json(added)
        return
    output.say(f"✓ The domain leads to `{added.tag}` of `{added.app}`")
    output.out().print(added.url)
    if added.problem:
        output.warn(added.problem)


async def _remove(settings: Settings, domain: str, *, yes: bool) -> None:
    options.confirm(f"Remove the domain `{domain}`?", yes=yes)
    async with server.running(settings) as client:
        await client.domains.remove(domain)
    output.say(f"✓ `{domain}` is removed")
