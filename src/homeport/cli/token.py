"""`homeport proxy-token …`: tokens for endpoints with `requires_proxy_auth=True`."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import endpoint, options, output, server
from homeport.contract import names
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.tokens import NewProxyToken, ProxyTokenSecret, Rotation

app = typer.Typer(help="Proxy tokens: create, list, rotate, delete.", no_args_is_help=True)
Token = Annotated[str, typer.Argument(metavar="TOKEN_ID", help="wk-…")]
Expires = Annotated[
    str, typer.Option(help="When it expires, such as 90d or 12h.", show_default=False)
]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="A name for the token in lists.")] = "",
    scope: Annotated[
        str,
        typer.Option(
            metavar="APP[.FUNCTION]",
            help="The apps and functions that it opens, by commas; all of the environment by default.",
            show_default=False,
        ),
    ] = "",
    rate: Annotated[
        str,
        typer.Option(
            help="How often it may ask, such as 10/s or 600/m; no limit by default.",
            show_default=False,
        ),
    ] = "",
    expires: Expires = "",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Create a token; its secret is shown only this once."""
    from homeport.contract.api.tokens import NewProxyToken

    new_token = NewProxyToken(
        name=name,
        scopes=tuple(_scope(part.strip()) for part in scope.split(",") if part.strip()),
        rate=rate,
        expires_s=options.seconds("--expires", expires),
    )
    asyncio.run(_create(options.load(environment=environment), new_token, json=json))


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List all tokens, without their secrets."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def rotate(
    token: Token,
    overlap: Annotated[
        str,
        typer.Option(
            help="How long the secret before opens, too, such as 24h; it opens nothing any more by default.",
            show_default=False,
        ),
    ] = "",
    expires: Expires = "",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Give a token a new secret, which is shown only this once; its id, scopes and rate stay."""
    from homeport.contract.api.tokens import Rotation

    rotation = Rotation(
        overlap_s=options.seconds("--overlap", overlap) or 0.0,
        expires_s=options.seconds("--expires", expires),
    )
    asyncio.run(_rotate(options.load(environment=environment), token, rotation, json=json))


@app.command()
def delete(
    token: Token,
    yes: options.Yes = False,
    environment: options.Environment = None,
) -> None:
    """Delete a token; requests with it get 401 from now on."""
    asyncio.run(_delete(options.load(environment=environment), token, yes=yes))


async def _create(settings: Settings, new_token: "NewProxyToken", *, json: bool) -> None:
    async with server.background(settings) as client:
        token = await client.tokens.create(new_token)
    _show(token, json=json)


async def _rotate(settings: Settings, token: str, rotation: "Rotation", *, json: bool) -> None:
    async with server.running(settings) as client:
        rotated = await client.tokens.rotate(token, rotation)
    _show(rotated, json=json)
    if not json and rotation.overlap_s:
        until = output.local_time(rotated.former_until)
        output.say(f"The secret before opens endpoints until {until}")


def _show(token: "ProxyTokenSecret", *, json: bool) -> None:
    key, secret = token.token_id, token.secret
    headers = {
        "Modal-Key": key,
        "Modal-Secret": secret,
        "Authorization": f"Bearer {key}.{secret}",
    }
    if json:
        output.show_json(headers)
        return
    output.say("✓ A token; its secret is shown this once. Send either")
    output.out().print(f"Modal-Key: {key}\nModal-Secret: {secret}")
    output.say("or")
    output.out().print(f"Authorization: Bearer {key}.{secret}")


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        tokens = await client.tokens.every()
    if json:
        output.show_json(tokens)
        return
    table = [
        (
            t.name,
            t.token_id,
            output.local_time(t.created_at),
            ", ".join(names.endpoint(*endpoint.parts(scope)) for scope in t.scopes) or "all",
            t.rate or "no limit",
            output.local_time(t.expires_at) if t.expires_at else "never",
            output.local_time(t.used_at) if t.used_at else "never",
        )
        for t in tokens
    ]
    columns = ("Name", "Token ID", "Created at", "Opens", "Rate", "Expires at", "Last used at")
    output.show_table(columns, table, empty="no token")


async def _delete(settings: Settings, token: str, *, yes: bool) -> None:
    options.confirm(f"Delete the token `{token}`?", yes=yes)
    async with server.running(settings) as client:
        await client.tokens.delete(token)
    output.say(f"✓ Token `{token}` is deleted")


def _scope(text: str) -> str:
    """Return a scope as the API has it: `app`, or `app/function`."""
    name, tag = endpoint.parts(text)
    return f"{name}/{tag}" if tag else name
