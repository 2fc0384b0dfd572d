"""`homeport proxy-token …`: creates, lists and deletes tokens for endpoints with `requires_proxy_auth=True`."""

import asyncio
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.settings import Settings

app = typer.Typer(help="Proxy tokens: create, list, delete.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="A name for the token in lists.")] = "",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Create a token; its secret is shown only this once."""
    asyncio.run(_create(options.load(environment=environment), name, json=json))


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List all tokens, without their secrets."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def delete(
    token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="wk-…")],
    yes: options.Yes = False,
    environment: options.Environment = None,
) -> None:
    """Delete a token; requests with it get 401 from now on."""
    asyncio.run(_delete(options.load(environment=environment), token, yes=yes))


async def _create(settings: Settings, name: str, *, json: bool) -> None:
    async with server.kept(settings) as client:
        token = await client.tokens.create(name)
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
    table = [(t.name, t.token_id, output.local_time(t.created_at)) for t in tokens]
    output.show_table(("Name", "Token ID", "Created at"), table, empty="no token")


async def _delete(settings: Settings, token: str, *, yes: bool) -> None:
    options.confirm(f"Delete the token `{token}`?", yes=yes)
    async with server.running(settings) as client:
        await client.tokens.delete(token)
    output.say(f"✓ Token `{token}` is deleted")
