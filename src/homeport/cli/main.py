"""`homeport …`: every command, and what its end is worth: 0, 1 (yours), 2 (usage), 70 (ours)."""

import sys
import traceback
from typing import Annotated

import typer

from homeport import __version__
from homeport.cli import app as apps
from homeport.cli import container, daemon, doctor, image, output, secret, token
from homeport.cli import deploy as deploying
from homeport.cli import serve as serving
from homeport.client import ServerBug
from homeport.contract.errors import Failure

OURS = 70  # EX_SOFTWARE of sysexits.h

cli = typer.Typer(
    help="Turn a Python function into a web endpoint, on a machine you own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.command()(serving.serve)
cli.command()(deploying.deploy)
cli.command()(daemon.up)
cli.command()(daemon.down)
cli.command()(daemon.status)
cli.add_typer(apps.app, name="app")
cli.add_typer(container.app, name="container")
cli.add_typer(image.app, name="image")
cli.add_typer(secret.app, name="secret")
cli.add_typer(token.app, name="proxy-token")
cli.add_typer(token.workspace, name="workspace", hidden=True)
cli.command()(doctor.doctor)


def _version(on: bool) -> None:
    if on:
        output.out().print(f"homeport {__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version)] = False,
) -> None:
    pass


def main() -> None:
    """Run one command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no such character
    try:
        cli()
    except BrokenPipeError:
        sys.stderr.close()  # `| head` has had enough
        sys.exit(0)
    except Exception as error:
        sys.exit(_fail(error))


def _fail(error: BaseException) -> int:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Failure):
        output.show_failure(error)
        return 1
    if isinstance(error, ServerBug):
        output.say(f"error: {error}\nThis is a bug of homeport.")
        return OURS
    output.say("".join(traceback.format_exception(error)).rstrip())
    output.say("error: this is a bug of homeport; the lines above say where")
    return OURS
