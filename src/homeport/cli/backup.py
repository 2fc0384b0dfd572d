"""`homeport backup` and `homeport restore`."""

import asyncio
import dataclasses
import json as jsonlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from homeport.cli import options, output, server
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, ServerUnreachable
from homeport.settings import Settings

File = Annotated[Path, typer.Argument(help="The backup, such as homeport.backup.")]
Replace = Annotated[bool, typer.Option("--force", help="Replace a file of that name.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace what the home has; a server that runs is ended, and started again.",
    ),
]


def backup(file: File, force: Replace = False, json: options.Json = False) -> None:
    """Write everything that the home keeps into one file, also while the server runs.

    The file has the secrets and the key that opens them: keep it as safe as these.
    """
    settings = _here(options.load())
    told = ask(settings, "backup", file=file, force=force)
    if json:
        output.show_json(told)
        return
    output.say(f"{_contents(told)} are in {file}")
    _say_volumes(told, settings, "copy them beside it")
    if told["missing"]:
        output.warn(f"{told['missing']} files of versions are missing in the home itself")


def restore(file: File, force: Force = False, json: options.Json = False) -> None:
    """Make the home what a backup has: all of it, or nothing is changed."""
    settings = _here(options.load())
    told = asyncio.run(_restore(settings, file, force=force))
    if json:
        output.show_json(told)
        return
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(told["made_at"]))
    output.say(f"{_contents(told)} are back, as of {made}")
    _say_volumes(told, settings, "put your copy of them there")


def ask(settings: Settings, what: str, *, file: Path | None = None, force: bool = False) -> Any:
    """Return the answer of `python -m homeport.state`, because a command never imports that room."""
    told = {**dataclasses.asdict(settings), "home": str(settings.home)}
    asked = {
        "do": what,
        "settings": told,
        "file": str(file.absolute()) if file else "",
        "force": force,
    }
    done = subprocess.run(
        [sys.executable, "-m", "homeport.state"],
        input=jsonlib.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = jsonlib.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"`python -m homeport.state` failed:\n{done.stderr}") from None
    if "error" in answer:
        raise Failure.from_dict(answer["error"])
    return answer


async def _restore(settings: Settings, file: Path, *, force: bool) -> Any:
    if not await _runs(settings):
        return ask(settings, "restore", file=file, force=force)
    if not force:
        raise AlreadyExists(
            f"a server uses {settings.home}: nothing has been changed",
            hint="`homeport down` ends it; `--force` ends it, restores, and starts it again",
        )
    ask(settings, "check", file=file)  # before anything ends
    await server.down(settings)
    try:
        return ask(settings, "restore", file=file, force=True)
    finally:
        async with server.kept(settings):
            pass


async def _runs(settings: Settings) -> bool:
    from homeport.client import ServerSilent

    async with server.running(settings) as client:
        try:
            await client.server.status()
        except ServerSilent:
            raise
        except ServerUnreachable:
            return False
    return True


def _here(settings: Settings) -> Settings:
    if settings.server:
        raise BadRequest(
            "a backup is made and restored on the machine of the server",
            hint="log in there, and run it without HOMEPORT_SERVER",
        )
    return settings


def _say_volumes(told: dict[str, Any], settings: Settings, what: str) -> None:
    if names := ", ".join(f"`{name}`" for name in told["volumes"]):
        output.warn(
            f"the files of the volumes {names} are not in a backup: they are in {settings.volumes_dir}; {what}"
        )


def _contents(told: dict[str, Any]) -> str:
    def some(number: int, noun: str) -> str:
        return f"{number} {noun}{'' if number == 1 else 's'}"

    return f"{some(told['apps'], 'app')} and {some(told['secrets'], 'secret')}"
