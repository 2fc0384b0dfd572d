"""Options that several commands share, and the settings that they make."""

import os
import re
import sys
from datetime import datetime
from typing import Annotated

import typer

from homeport import settings as all_settings
from homeport.cli import output
from homeport.contract import durations
from homeport.contract.errors import BadRequest, Failure
from homeport.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
Ref = Annotated[
    str, typer.Argument(metavar="SCRIPT", help="path/script.py[::app], or a module with -m.")
]
Module = Annotated[bool, typer.Option("-m", help="SCRIPT is a module, such as shop.web.")]
Name = Annotated[str, typer.Option("-n", "--name", help="A name instead of the App's own.")]
Environment = Annotated[
    str | None,
    typer.Option(
        "-e",
        "--env",
        metavar="NAME",
        help="The environment, `main` by default.",
        show_default=False,
    ),
]
Follow = Annotated[bool, typer.Option("-f", "--follow", help="Wait for more lines.")]
Tail = Annotated[int, typer.Option("-n", "--tail", min=1, help="How many of the last lines.")]
Timestamps = Annotated[bool, typer.Option("--timestamps", help="Show when each line was printed.")]
BuildLog = Annotated[
    bool, typer.Option("--build-log", help="Show each line of a build, also on a terminal.")
]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all.", show_default=False)
]
HttpPort = Annotated[
    int | None,
    typer.Option(help="Port to listen on, 0 for any; 4663 by default.", show_default=False),
]

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def load(**flags: object) -> Settings:
    """Return the settings in force; warn about variables that look like settings and are not."""
    warn_unknown()
    return all_settings.load(os.environ, **flags)


def warn_unknown() -> None:
    """Warn about variables that look like settings and are not."""
    for text in all_settings.unknown(os.environ):
        output.warn(text)


def there(settings: Settings) -> str:
    """Return where a command acts, for a question about a server on another machine; else nothing."""
    return f" at {settings.server}" if settings.server else ""


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation unless `yes`; end the command if there is no terminal to ask on."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(
            "Aborted: no interactive terminal detected. Rerun with --yes (-y) to skip confirmation."
        )
    typer.confirm(question, abort=True, err=True)


def seconds(flag: str, text: str) -> float | None:
    """Return a length of time such as `90d` in seconds; None if the flag was not given."""
    try:
        return durations.seconds(text) if text else None
    except ValueError as error:
        raise BadRequest(f"{flag} is {text!r}: {error}") from None


def moment(text: str, now: float) -> float:
    """Return a time as seconds since the epoch; `30m` is 30 minutes before `now`, and no text is 0.

    >>> moment("2m", 1000.0), moment("", 1000.0)
    (880.0, 0.0)
    """
    if not text:
        return 0.0
    if match := re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)([smhd])", text):
        return now - float(match[1]) * UNITS_S[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadRequest(
            f"`{text}` is not a time", hint="write 30m, 2h, 1d or 2026-01-31T12:00"
        ) from None
