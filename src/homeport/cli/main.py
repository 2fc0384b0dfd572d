"""`homeport …`: runs a command. Exit codes: 0, 1 (the user's problem), 2 (usage), 70 (a bug of homeport)."""

import contextlib
import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from homeport import __version__
from homeport.cli import output
from homeport.contract import shape
from homeport.contract.errors import Failure, StorageError

OURS = 70  # EX_SOFTWARE of sysexits.h
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, or what the user may write
#: Command -> its module, and the function or the group of commands there.
COMMANDS = {
    "run": ("run", "run"),
    "serve": ("serve", "serve"),
    "deploy": ("deploy", "deploy"),
    "up": ("daemon", "up"),
    "down": ("daemon", "down"),
    "status": ("daemon", "status"),
    "app": ("app", "app"),
    "shell": ("shell", "shell"),
    "container": ("container", "app"),
    "image": ("image", "app"),
    "volume": ("volume", "app"),
    "call": ("call", "app"),
    "request": ("request", "app"),
    "capture": ("capture", "app"),
    "dict": ("shared", "dicts"),
    "queue": ("shared", "queues"),
    "secret": ("secret", "app"),
    "proxy-token": ("token", "app"),
    "rate-limit": ("rate_limit", "app"),
    "alert": ("alert", "app"),
    "login": ("profile", "login"),
    "logout": ("profile", "logout"),
    "profile": ("profile", "app"),
    "token": ("api_token", "app"),
    "user": ("api_token", "users"),
    "audit": ("audit", "audit"),
    "trust": ("trust", "trust"),
    "domain": ("domain", "app"),
    "certificate": ("certificate", "app"),
    "config": ("config", "app"),
    "node": ("node", "app"),
    "environment": ("environment", "environments"),
    "workspace": ("environment", "workspaces"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "service": ("service", "app"),
    "dashboard": ("dashboard", "dashboard"),
    "doctor": ("doctor", "doctor"),
}
#: Commands of Modal that are not there yet, and what to do instead.
LATER = {
    "setup": "homeport needs no account: `homeport doctor` says what this machine has",
}


class _Commands(TyperGroup):
    """All commands. For one that only groups have, it says so: `homeport logs` is `homeport app logs`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            groups = [
                name
                for name, group in self.commands.items()
                if isinstance(group, click.Group) and args[0] in group.commands
            ]
            if not groups:
                raise
            commands = [f"`homeport {name} {args[0]}`" for name in groups[:3]]
            message = f"No such command '{args[0]}'. Did you mean {', '.join(commands)}?"
            raise click.UsageError(message, ctx) from None


def _version(on: bool) -> None:
    if on:
        output.out().print(f"homeport {__version__}")
        raise typer.Exit


def _profile(name: str | None) -> str | None:
    """Choose a profile for this command, and for the processes that it starts."""
    if name is not None:
        os.environ["HOMEPORT_PROFILE"] = name
        for variable in ("HOMEPORT_SERVER", "HOMEPORT_TOKEN", "HOMEPORT_SERVER_CA"):
            os.environ.pop(variable, None)
    return name


def _root(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="The server that the command goes to, of `homeport profile list`.",
            callback=_profile,
            show_default=False,
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version)] = False,
) -> None:
    pass


def command_line(words: Sequence[str]) -> typer.Typer:
    """Return the app with the command in `words`, or with all commands; import only the needed modules."""
    cli = typer.Typer(
        cls=_Commands,
        help="Turn a Python function into a web endpoint, on a machine you own.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cli.suggest_commands = False  # Click does it, too
    cli.callback()(_root)
    command = _command(words)
    for name in [command] if command in COMMANDS else COMMANDS:
        module, attribute = COMMANDS[name]
        imported = importlib.import_module(f"homeport.cli.{module}")
        command_found = getattr(imported, attribute)
        if isinstance(command_found, typer.Typer):
            command_found.suggest_commands = False
            cli.add_typer(command_found, name=name)
        else:
            cli.command(context_settings=getattr(imported, "CONTEXT", None))(command_found)
    return cli


def _command(words: Sequence[str]) -> str:
    """Return the command in `words`; empty if they begin with something else.

    >>> _command(["--profile", "prod", "app", "list"])
    'app'
    """
    if words and words[0] == "--profile":
        words = words[2:]
    elif words and words[0].startswith("--profile="):
        words = words[1:]
    return words[0] if words else ""


def main() -> None:
    """Run one command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no such character
    try:
        words = sys.argv[1:]
        command = _command(words)
        if command in LATER and command not in COMMANDS:
            raise Failure(f"`homeport {command}` is not there yet", hint=LATER[command])
        command_line(words)()
    except BrokenPipeError:
        sys.stderr.close()  # `| head` has had enough
        sys.exit(0)
    except Exception as error:
        sys.exit(_fail(error))


def _fail(error: BaseException) -> int:
    from homeport.client import ServerBug

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Failure):
        if isinstance(error, StorageError) and not error.hint:
            error.hint = "make room on the disk, or name another directory in HOMEPORT_HOME"
        output.show_failure(error)
        return 1
    if isinstance(error, UnicodeEncodeError) and (word := _odd_word()):
        output.say(f"error: {word!a} is not UTF-8 text")
        return 1
    if isinstance(error, OSError) and error.errno in FULL:
        output.say(f"error: {error.filename or 'the output'} cannot be written: {error.strerror}")
        return 1
    if isinstance(error, ServerBug):
        output.say(f"error: {error}\nThis is a bug of homeport.")
        return OURS
    output.say(f"error: this is a bug of homeport: {type(error).__name__}; {_written(error)}")
    return OURS


def _odd_word() -> str:
    """Return a word of the command line that no request can carry; empty if there is none."""
    return next((word for word in sys.argv[1:] if not shape.is_text(word)), "")


def _written(error: BaseException) -> str:
    """Write the traceback to a file and return where: on a terminal it is noise, and it may have a secret."""
    from homeport import settings

    text = f"{datetime.now().astimezone().isoformat()} homeport {__version__}\n"
    text += "".join(traceback.format_exception(error))
    with contextlib.suppress(Failure, OSError):
        home = settings.load(os.environ).home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = home / "errors.log"
        _append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), text)
        return f"see {path}"
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="homeport-errors-", suffix=".log")
        _append(handle, text)
        return f"see {name}"
    return "no file could be written with the details"


def _append(handle: int, text: str) -> None:
    with os.fdopen(handle, "a", encoding="utf-8", errors="replace") as file:
        file.write(text)
