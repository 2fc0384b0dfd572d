"""`homeport login`, `logout` and `profile …`: the servers on other machines that commands can go to."""

import asyncio
import dataclasses
import os
import ssl
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from homeport import settings as all_settings
from homeport.cli import options, output
from homeport.contract.errors import BadRequest, Failure, ServerUnreachable
from homeport.settings import Settings, profiles
from homeport.settings.keys import KEYS
from homeport.settings.profiles import LOCAL, Profile

app = typer.Typer(help="Servers on other machines: list, use, remove.", no_args_is_help=True)
NAME = Annotated[str, typer.Argument(metavar="PROFILE", help="The profile's name.")]


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://apps.example.com")],
    name: Annotated[
        str, typer.Option("-n", "--name", help="The profile's name; the server's by default.")
    ] = "",
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="The certificate of a CA of yours.")
    ] = None,
) -> None:
    """Log in to a server on another machine, which commands go to from now on."""
    server = _server(url)
    chosen = name or urlsplit(server).hostname or ""
    profiles.check_name(chosen)
    home = _home()
    authority = _authority(ca)
    token = _token(server, from_input=token_stdin)
    ca_file = home / "profiles" / f"{chosen}.pem" if authority else None
    remote = all_settings.Settings(
        home=home, server=server, token=token, server_ca=str(ca.resolve() if ca else "")
    )
    user = asyncio.run(_verified(remote))
    if ca_file is not None:
        profiles.save(ca_file, authority)
    saved = profiles.read(home)
    earlier = saved.by_name.get(chosen)
    # A new token for the same server must not lead commands to another environment.
    environment = earlier.environment if earlier and earlier.server == server else ""
    profile = Profile(
        server=server,
        token=token,
        server_ca=str(ca_file or ""),
        user=user,
        environment=environment,
    )
    others = {**saved.by_name, chosen: profile}
    profiles.write(home, dataclasses.replace(saved, current=chosen, by_name=others))
    output.say(
        f"✓ Logged in to {server}{f' as {user}' if user else ''}; commands go there from now on, by the "
        f"profile `{chosen}`. `homeport profile use {LOCAL}` leads them back to this machine"
    )
    if os.environ.get("HOMEPORT_SERVER"):
        output.warn("HOMEPORT_SERVER is set, and takes the place of every profile")


def logout(
    profile: Annotated[
        str, typer.Argument(metavar="[PROFILE]", help="The one in use by default.")
    ] = "",
) -> None:
    """Forget a server and its token; the token itself stays valid until an admin deletes it."""
    saved = profiles.read(_home())
    name = profile or os.environ.get(profiles.VARIABLE) or saved.current
    if name in ("", LOCAL):
        raise Failure("you are not logged in", hint="`homeport profile list` has the profiles")
    remove(name)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the profiles; a star marks the one in use."""
    saved = profiles.read(_home())
    current = os.environ.get(profiles.VARIABLE) or saved.current or LOCAL
    rows = [(LOCAL, "this machine", "")]
    rows += [(name, profile.server, profile.user) for name, profile in saved.by_name.items()]
    if json:
        output.show_json(
            [
                {"name": name, "server": server, "user": user, "current": name == current}
                for name, server, user in rows
            ]
        )
        return
    table = [("*" if row[0] == current else "", *row) for row in rows]
    output.show_table(("", "Name", "Server", "User"), table, empty="")


@app.command()
def use(profile: NAME) -> None:
    """Send commands to another server from now on; `local` is this machine's own."""
    home = _home()
    saved = profiles.read(home)
    if profile != LOCAL:
        saved.get(profile)
    current = "" if profile == LOCAL else profile
    profiles.write(home, dataclasses.replace(saved, current=current))
    output.say(f"✓ Commands go to {saved.get(profile).server if current else 'this machine'} now")


@app.command()
def remove(profile: NAME) -> None:
    """Forget a server and its token."""
    home = _home()
    saved = profiles.read(home)
    removed = saved.get(profile)
    remaining = {name: other for name, other in saved.by_name.items() if name != profile}
    current = "" if saved.current == profile else saved.current
    profiles.write(home, dataclasses.replace(saved, current=current, by_name=remaining))
    if removed.server_ca:
        Path(removed.server_ca).unlink(missing_ok=True)
    output.say(f"✓ `{profile}` is forgotten; its token is valid until an admin deletes it")


def _home() -> Path:
    """Return the home, without a profile: this must work also if the chosen one is unknown."""
    environ = {**os.environ, profiles.VARIABLE: LOCAL, "HOMEPORT_SERVER": ""}
    return all_settings.load(environ).home


def _server(url: str) -> str:
    text = url if "://" in url else f"https://{url}"
    server: str = KEYS["server"].read("the URL", text)
    if urlsplit(server).path not in ("", "/"):
        raise BadRequest(
            f"the URL has a path, {urlsplit(server).path}", hint="leave it out: https://HOST"
        )
    return server


def _authority(ca: Path | None) -> bytes:
    """Return the text of a CA's certificate."""
    if ca is None:
        return b""
    try:
        content = ca.read_bytes()
        ssl.create_default_context(cadata=content.decode())
    except (ValueError, ssl.SSLError):  # an SSLError is an OSError, too
        raise BadRequest(f"{ca} has no certificate in PEM") from None
    except OSError as error:
        raise BadRequest(f"{ca} cannot be read: {error.strerror}") from None
    return content


def _token(server: str, *, from_input: bool) -> str:
    if from_input:
        text = sys.stdin.readline()
    elif sys.stdin.isatty():
        text = typer.prompt(f"Token for {server}", hide_input=True, err=True)
    else:
        raise Failure("there is no terminal to ask for the token on", hint="use `--token-stdin`")
    token: str = KEYS["token"].read("the token", text.strip().removeprefix("HOMEPORT_TOKEN="))
    return token


async def _verified(remote: Settings) -> str:
    """Return whose token it is; raise if the server does not take it."""
    from homeport.client import Client

    async with Client(remote) as client:
        try:
            return (await client.api_tokens.identity()).user
        except ServerUnreachable as error:
            error.hint = error.hint if "certificate" in error.message else "is it the server's URL?"
            raise
