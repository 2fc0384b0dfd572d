"""`homeport config …`: the environment of commands that name none, and the settings in force."""

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from homeport import settings as all_settings
from homeport.cli import options, output, server
from homeport.contract.errors import NotFound, ServerUnreachable
from homeport.settings import Settings, profiles

app = typer.Typer(help="The settings of commands: set-environment, show.", no_args_is_help=True)
#: Their values are shown only with --no-redact; a database's URL may have a password.
SECRET = ("token", "database", "dns_key")
REDACTED = "***"


@app.command("set-environment")
def set_environment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An environment of the server.")],
) -> None:
    """Choose the environment of commands and scripts that name none, for the server in use."""
    settings = options.load(environment=name)
    asyncio.run(_check(settings))
    home = all_settings.home_of(os.environ)
    profiles.write(home, profiles.read(home).with_environment(os.environ, name))
    output.say(f"✓ Commands{options.there(settings)} act in the environment `{name}`")
    for variable in ("HOMEPORT_ENVIRONMENT", "MODAL_ENVIRONMENT"):
        if os.environ.get(variable):
            output.warn(f"{variable} is set, and comes first")


@app.command()
def show(
    redact: Annotated[
        bool, typer.Option("--redact/--no-redact", help="Hide the values of secrets.")
    ] = True,
) -> None:
    """Print the settings in force, as JSON."""
    values = dataclasses.asdict(options.load())
    set_keys = set(values.pop("given"))
    for key in SECRET:
        if redact and key in set_keys and values[key]:
            values[key] = REDACTED
    output.show_json({k: str(v) if isinstance(v, Path) else v for k, v in sorted(values.items())})


async def _check(settings: Settings) -> None:
    """Raise `NotFound` if the server has no such environment; a server that does not run cannot say."""
    try:
        async with server.running(settings) as client:
            names_known = [environment.name for environment in await client.environments.every()]
    except ServerUnreachable:
        return
    if settings.environment not in names_known:
        names = ", ".join(f"`{environment}`" for environment in names_known)
        raise NotFound(
            f"there is no environment `{settings.environment}`",
            hint=f"there is {names}; `homeport environment create NAME` makes another one",
        )
