"""`homeport secret …`: creates, lists and deletes secrets. No command prints a value."""

import asyncio
import io
import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.contract.api.secrets import NewSecret
from homeport.contract.errors import BadRequest, NotFound
from homeport.settings import Settings

app = typer.Typer(help="Secrets: create, list, delete.", no_args_is_help=True)

SecretName = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")]


@app.command()
def create(
    name: SecretName,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="KEY=- asks for the value."),
    ] = None,
    from_dotenv: Annotated[Path | None, typer.Option(help="Read KEY=VALUE lines.")] = None,
    from_json: Annotated[Path | None, typer.Option(help="Read an object of strings.")] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing secret.")] = False,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Create a secret, encrypted at rest."""
    values = {
        **(_dotenv(from_dotenv) if from_dotenv else {}),
        **(_json(from_json) if from_json else {}),
        **dict(_pair(pair) for pair in pairs or ()),
    }
    if not values:
        raise typer.BadParameter(
            "You need to specify at least one key for your secret: "
            f"`homeport secret create {name} KEY=value`"
        )
    asyncio.run(
        _create(options.load(environment=environment), name, values, force=force, json=json)
    )


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List the secrets' names and keys, without values."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def delete(
    name: SecretName,
    yes: options.Yes = False,
    allow_missing: Annotated[bool, typer.Option(help="Succeed also if there is none.")] = False,
    environment: options.Environment = None,
) -> None:
    """Delete a secret; containers that run keep its values until they end."""
    asyncio.run(
        _delete(options.load(environment=environment), name, yes=yes, allow_missing=allow_missing)
    )


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(
            f"`{key}` has no value: write `{key}=value`, or `{key}=-` to be asked"
        )
    if value == "-":
        value = typer.prompt(key, hide_input=True, err=True)
    return key, value


def _dotenv(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    lines = io.StringIO(_text(path))
    return {key: value or "" for key, value in dotenv_values(stream=lines).items()}


def _text(path: Path) -> str:
    """Return a file's text; it may be a pipe, such as that of `<(pass show shop)`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"`{path}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"`{path}` is not UTF-8 text") from None


def _json(path: Path) -> dict[str, str]:
    try:
        values = jsonlib.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"`{path}` is not JSON: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise typer.BadParameter(f"`{path}` must be an object whose values are strings")
    return values


async def _create(
    settings: Settings, name: str, values: dict[str, str], *, force: bool, json: bool
) -> None:
    async with server.background(settings) as client:
        secret = NewSecret(name=name, values=values, force=force)
        keys = (created := await client.secrets.create(secret)).keys
    if json:
        output.show_json(created)
        return
    key = keys[0]
    output.say(f"✓ Secret `{name}` with {', '.join(keys)}. In your script:")
    output.out().print(
        f'@app.function(secrets=[modal.Secret.from_name("{name}")])\n'
        f'def some_function():\n    os.getenv("{key}")'
    )


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        secrets = await client.secrets.every()
    if json:
        output.show_json(secrets)
        return
    rows = [(s.name, ", ".join(s.keys), output.local_time(s.created_at)) for s in secrets]
    output.show_table(("Name", "Keys", "Created at"), rows, empty="no secret")


async def _delete(settings: Settings, name: str, *, yes: bool, allow_missing: bool) -> None:
    options.confirm(f"Delete the secret `{name}`?", yes=yes)
    async with server.running(settings) as client:
        try:
            await client.secrets.delete(name)
        except NotFound:
            if not allow_missing:
                raise
            output.say(f"there is no secret `{name}`")
            return
    output.say(f"✓ Secret `{name}` is deleted")
