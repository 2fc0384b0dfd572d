"""`homeport rate-limit …`: how many requests the endpoints of deployed apps take."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import options, output, server
from homeport.cli.endpoint import Endpoint, parts
from homeport.contract import names
from homeport.contract.errors import BadRequest, NotFound
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.rate_limits import RateLimit

app = typer.Typer(help="Rate limits of endpoints: list, set, remove.", no_args_is_help=True)


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List the rate limits of endpoints; proxy tokens have rates of their own."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command("set")
def set_(
    endpoint: Endpoint,
    rate: Annotated[str, typer.Argument(metavar="RATE", help="Such as 10/s or 600/m.")],
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Limit the requests to an endpoint: more get 429. The limit stays over redeploys."""
    asyncio.run(_set(options.load(environment=environment), endpoint, rate, json=json))


@app.command()
def remove(
    endpoint: Endpoint,
    yes: options.Yes = False,
    environment: options.Environment = None,
) -> None:
    """Remove the rate limit of an endpoint."""
    asyncio.run(_remove(options.load(environment=environment), endpoint, yes=yes))


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        limits = await client.rate_limits.every()
    if json:
        output.show_json(limits)
        return
    table = [(names.endpoint(limit.app, limit.tag), limit.rate) for limit in limits]
    output.show_table(("Endpoint", "Rate"), table, empty="no endpoint has a rate limit")


async def _set(settings: Settings, endpoint: str, rate: str, *, json: bool) -> None:
    from homeport.contract.api.rate_limits import NewRateLimit

    app_name, tag = parts(endpoint)
    async with server.running(settings) as client:
        limit = await client.rate_limits.set(NewRateLimit(app=app_name, tag=tag, rate=rate))
    if json:
        output.show_json(limit)
        return
    output.say(f"✓ `{names.endpoint(limit.app, limit.tag)}` takes {limit.rate}")


async def _remove(settings: Settings, endpoint: str, *, yes: bool) -> None:
    app_name, tag = parts(endpoint)
    async with server.running(settings) as client:
        tag = tag or _only(app_name, await client.rate_limits.every())
        options.confirm(f"Remove the rate limit of `{names.endpoint(app_name, tag)}`?", yes=yes)
        await client.rate_limits.remove(app_name, tag)
    output.say(f"✓ `{names.endpoint(app_name, tag)}` has no rate limit any more")


def _only(app_name: str, limits: "tuple[RateLimit, ...]") -> str:
    """Return the function of an app with one rate limit."""
    tags = sorted(limit.tag for limit in limits if limit.app == app_name)
    if not tags:
        raise NotFound(
            f"no endpoint of `{app_name}` has a rate limit",
            hint="`homeport rate-limit list` has them",
        )
    if len(tags) > 1:
        endpoints = ", ".join(f"`{names.endpoint(app_name, tag)}`" for tag in tags)
        raise BadRequest(
            f"{len(tags)} endpoints of `{app_name}` have a rate limit",
            hint=f"name one: {endpoints}",
        )
    return tags[0]
