"""`homeport token …` and `homeport user …`: who may use the server's API."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import options, output, server
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.api_tokens import ApiToken

app = typer.Typer(help="Tokens of the API: create, list, delete, info.", no_args_is_help=True)
users = typer.Typer(help="Users of the API: list, delete.", no_args_is_help=True)
TOKEN = Annotated[str, typer.Argument(metavar="TOKEN", help="ak-…, or the token's name.")]


@app.command()
def create(
    scope: Annotated[
        str, typer.Option(help="What it may do: read, deploy, secrets, admin; several by commas.")
    ],
    name: Annotated[str, typer.Option(help="A name for the token in lists.")] = "",
    env: Annotated[
        str, typer.Option(help="The environments that it may use, by commas; all by default.")
    ] = "",
    expires: Annotated[
        str, typer.Option(help="When it expires, such as 90d or 12h; never by default.")
    ] = "",
    user: Annotated[str, typer.Option(help="Whose token it is; yours by default.")] = "",
    workspace: Annotated[
        str, typer.Option(help="The workspace that it opens; yours by default.")
    ] = "",
    json: options.Json = False,
) -> None:
    """Create a token; its secret is shown only this once."""
    from homeport.contract.api.api_tokens import NewApiToken

    new_token = NewApiToken(
        name=name,
        user=user,
        scopes=tuple(map(_scope, _parts(scope))),
        environments=tuple(_parts(env)),
        workspace=workspace,
        expires_s=options.seconds("--expires", expires),
    )

    async def work() -> None:
        async with server.background(options.load()) as client:
            created = await client.api_tokens.create(new_token)
        if json:
            output.show_json(created)
            return
        output.say(f"✓ Token `{created.token.id}`; its secret is shown this once")
        output.out().print(f"HOMEPORT_TOKEN={created.secret}")

    asyncio.run(work())


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List all tokens, without their secrets."""
    tokens = asyncio.run(_tokens(options.load()))
    if json:
        output.show_json(tokens)
        return
    columns = ["Name", "Token ID", "User", "Scopes", "Environments", "Expires at", "Last used at"]
    rows = list(map(_row, tokens))
    if any(token.workspace != MAIN.workspace for token in tokens):
        columns.append("Workspace")
        rows = [(*row, token.workspace) for row, token in zip(rows, tokens, strict=True)]
    output.show_table(columns, rows, empty="no token")


@app.command()
def delete(token: TOKEN, yes: options.Yes = False) -> None:
    """Delete a token; requests with it get 401 from now on."""

    async def work() -> None:
        settings = options.load()
        chosen = _chosen(await _tokens(settings), token)
        options.confirm(f"Delete the token `{chosen.id}` {chosen.name}?", yes=yes)
        async with server.running(settings) as client:
            await client.api_tokens.delete(chosen.id)
        output.say(f"✓ Token `{chosen.id}` is deleted")

    asyncio.run(work())


@app.command()
def info(json: options.Json = False) -> None:
    """Show who you are for the server, and what you may do."""

    async def work() -> None:
        settings = options.load()
        async with server.running(settings) as client:
            identity = await client.api_tokens.identity()
        if json:
            output.show_json(identity)
            return
        rows = [
            ("Server", settings.server or str(settings.home)),
            ("User", identity.user or ("the server's own" if identity.by == "socket" else "")),
            ("Token", identity.token.id if identity.token else ""),
            ("Permissions", ", ".join(permission.value for permission in identity.permissions)),
            ("Environments", ", ".join(identity.environments) or "all"),
            ("Expires at", _until(identity.token.expires_at if identity.token else None)),
        ]
        output.show_table(("", ""), rows, empty="")

    asyncio.run(work())


@users.command("list")
def list_users(json: options.Json = False) -> None:
    """List the users that have a token."""
    tokens = asyncio.run(_tokens(options.load()))
    tokens_by_user: dict[str, list[ApiToken]] = {}
    for token in tokens:
        if token.user:
            tokens_by_user.setdefault(token.user, []).append(token)
    users = [
        {
            "user": user,
            "tokens": [token.id for token in tokens_of_user],
            "used_at": max(token.used_at or 0.0 for token in tokens_of_user) or None,
        }
        for user, tokens_of_user in sorted(tokens_by_user.items())
    ]
    if json:
        output.show_json(users)
        return
    rows = [
        (
            user,
            len(tokens_of_user),
            output.local_time(max(token.used_at or 0.0 for token in tokens_of_user) or None),
        )
        for user, tokens_of_user in sorted(tokens_by_user.items())
    ]
    output.show_table(("User", "Tokens", "Last used at"), rows, empty="no user has a token")


@users.command("delete")
def delete_user(
    user: Annotated[str, typer.Argument(metavar="USER", help="The name on the tokens.")],
    yes: options.Yes = False,
) -> None:
    """Delete every token of a user; requests with them get 401 from now on."""

    async def work() -> None:
        options.confirm(f"Delete all tokens of `{user}`?", yes=yes)
        async with server.running(options.load()) as client:
            ids = await client.api_tokens.delete_user(user)
        output.say(f"✓ {output.counted(len(ids), 'token')} of `{user}` deleted")

    asyncio.run(work())


async def _tokens(settings: Settings) -> "tuple[ApiToken, ...]":
    async with server.running(settings) as client:
        return await client.api_tokens.every()


def _chosen(tokens: "tuple[ApiToken, ...]", wanted_token: str) -> "ApiToken":
    """Return the token with an id, or the only one with a name."""
    matching = [token for token in tokens if token.id == wanted_token]
    matching = matching or [
        token for token in tokens if wanted_token and token.name == wanted_token
    ]
    if not matching:
        raise NotFound(f"there is no token `{wanted_token}`", hint="`homeport token list` has them")
    if len(matching) > 1:
        ids = ", ".join(f"`{token.id}`" for token in matching)
        raise BadRequest(
            f"{len(matching)} tokens have the name `{wanted_token}`", hint=f"name one: {ids}"
        )
    return matching[0]


def _row(token: "ApiToken") -> tuple[object, ...]:
    return (
        token.name,
        token.id,
        token.user,
        ", ".join(scope_.value for scope_ in token.scopes),
        ", ".join(token.environments) or "all",
        _until(token.expires_at),
        output.local_time(token.used_at) if token.used_at else "never",
    )


def _until(at: float | None) -> str:
    return output.local_time(at) if at else "never"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _scope(text: str) -> Permission:
    try:
        return Permission(text)
    except ValueError:
        scopes = ", ".join(permission.value for permission in Permission)
        raise BadRequest(f"there is no scope `{text}`", hint=f"there are {scopes}") from None
