"""Prints for commands: data to stdout, messages to stderr; tables for people, JSON for programs.

Rich takes 100 ms to import, so it is imported when a command first prints with it; by then the server that
the command may have started is starting too.
"""

import importlib
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from homeport.cli import terminal
from homeport.contract import codec
from homeport.contract.errors import Failure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from homeport.contract.api.apps import EndpointStatus
    from homeport.contract.api.events import Event
    from homeport.contract.api.server import Status
    from homeport.contract.container import LogLine
    from homeport.contract.traffic import RequestRecord

WIDE = 1000
SHOWN_LINES = 2000
#: What a command that deploys imports later anyway.
AHEAD = (
    *("homeport.client.blobs", "homeport.client.deploys", "homeport.client.local"),
    *("homeport.client.server", "rich.console", "rich.text"),
)
COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
#: The console of a live line (live.py), above which everything is printed that goes to the terminal.
above: "Console | None" = None


def out() -> "Console":
    """Return the console for data: stdout."""
    if above is not None and sys.stdout.isatty():
        return above
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False, markup=False)


def err() -> "Console":
    """Return the console for messages: stderr."""
    if above is not None:
        return above
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)


def prepare() -> None:
    """Import the modules for printing and for asking the server, while the command waits for another process."""
    for module in AHEAD:
        importlib.import_module(module)


def coloured(text: str, colour: str) -> "Text":
    """Return a line of a server's text for the console."""
    from rich.text import Text

    return Text(terminal.line(text), style=colour)


def say(text: str) -> None:
    """Print a message."""
    err().print(terminal.text(text))


def warn(text: str) -> None:
    """Print a warning."""
    from rich.text import Text

    err().print(Text.assemble(("warning: ", "yellow"), terminal.text(text)))


def show_json(value: object) -> None:
    """Print data for programs: a value of the contract, as the API encodes it."""
    print(terminal.encoded(codec.encode(value)), flush=True)  # noqa: T201 - never wrapped or coloured


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print data for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _text(cell) for cell in row))
    if table.row_count:
        # Do not wrap: a URL that is cut in two cannot be clicked.
        # With a width alone, rich takes 80 columns in a terminal without a cursor (TERM=dumb).
        console = Console(file=sys.stdout, highlight=False, width=WIDE, height=WIDE)
        console.print(table, crop=False)
    else:
        say(empty)


def show_row(row: Sequence[object], widths: Sequence[int]) -> None:
    """Print a row of a table whose later rows are not known yet; a longer cell moves the ones after it."""
    cells = (f"{_text(cell):<{width}}" for cell, width in zip(row, widths, strict=True))
    print("  ".join(cells).rstrip(), flush=True)  # noqa: T201 - never wrapped or coloured


def _text(cell: object) -> str:
    return "" if cell is None else terminal.line(str(cell))


def show_failure(failure: Failure) -> None:
    """Print `error: …`, the line of the script, and the hint."""
    from rich.text import Text

    console = err()
    console.print(Text.assemble(("error: ", "bold red"), terminal.text(failure.message)))
    if failure.where:
        console.print(f"  {terminal.text(failure.where)}")
    if failure.traceback:
        console.print(terminal.text(failure.traceback))
    if failure.hint:
        console.print(Text.assemble("\n", ("hint: ", "bold"), terminal.text(failure.hint)))


class Shown:
    """The last lines that a command has shown from the server."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=SHOWN_LINES)

    def add(self, event: "Event") -> None:
        """Add an event before it is shown."""
        if event.event == "log":
            self._lines.append(event.line.text.strip())
        elif event.event == "progress":  # of a build: `run_commands: what it printed`
            self._lines += [event.text.strip(), event.text.partition(": ")[2].strip()]

    def shorten(self, failure: Failure) -> None:
        """Remove from a failure the text that was shown already."""
        lines = {line.strip() for line in failure.traceback.splitlines()} - {""}
        if lines <= {*self._lines}:
            failure.traceback = ""


def show_endpoints(endpoints: "Sequence[EndpointStatus]") -> None:
    """Print one line for each URL, and for each function that is called."""
    from rich.text import Text

    width = max((len(endpoint.tag) for endpoint in endpoints), default=0)
    for endpoint in endpoints:
        marks = [
            mark
            for mark, holds in (
                ("🔑", endpoint.protected),
                ("(label truncated)", endpoint.truncated),
                ("(label stolen)", endpoint.stolen),
            )
            if holds
        ]
        out().print(
            Text.assemble(
                "  ",
                (f"{endpoint.tag:<{width}}", "bold"),
                f"  {endpoint.url}  (or {endpoint.local_url})"
                if endpoint.url
                else "  by .remote()",
                *(f" {mark}" for mark in marks),
            )
        )
        for url in endpoint.custom_domains:
            out().print(f"  {'':<{width}}  {terminal.text(url)}")
        show_certificate(endpoint)


def show_certificate(endpoint: "EndpointStatus") -> None:
    """Say if HTTPS of an endpoint must wait for a certificate."""
    if endpoint.certificate_error and endpoint.certificate != "valid":
        warn(f"no certificate for {endpoint.tag} yet: {endpoint.certificate_error}")
    elif endpoint.certificate in ("waiting", "ordering"):
        say(
            f"  the certificate of {endpoint.tag} is on its way; `homeport certificate list` shows it"
        )


def show_line(line: "LogLine", *, timestamps: bool = False, talk: bool = False) -> None:
    """Print a line of a log, after its function and container; each state of a progress bar is a line."""
    from rich.text import Text

    colour = _colour(line.function)
    stamp = f"{local_time(line.at)} " if timestamps else ""
    where = f"{line.node} " if line.node else ""
    prefix = f"{line.function} {line.container} {where}"
    console = err() if talk else out()
    for piece in terminal.pieces(line.text):
        text = Text(piece, style="dim" if line.source == "system" else "")
        console.print(Text.assemble(stamp, (prefix, colour), text))


def _colour(function: str) -> str:
    return COLOURS[sum(function.encode()) % len(COLOURS)]


def show_request(tag: str, request: "RequestRecord") -> None:
    """Return one line about a request that has ended: `web ta-1 GET /shop -> 200 OK (12 ms, cold)`."""
    from rich.text import Text

    status = status_text(request.status, none="the visitor left")
    where = f"{tag} {request.container or '-'} "
    line = f"{request.method} {request.path} -> {status} ({duration(request.duration_ms)}"
    line += ", cold)" if request.cold else ")"
    style = "red" if request.status >= 500 else ""
    out().print(Text.assemble((where, _colour(tag)), (terminal.line(line), style)))


def status_text(status: int, *, none: str) -> str:
    """Return a response's status as text for people; `none` if there was no response.

    >>> [status_text(status, none="no response") for status in (404, 299, 0)]
    ['404 Not Found', '299', 'no response']
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status) if status else none


def counted(count: int, noun: str) -> str:
    """Return a number of things as text.

    >>> [counted(count, "container") for count in (0, 1, 1200)]
    ['0 containers', '1 container', '1,200 containers']
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(ms: float | None) -> str:
    """Return milliseconds as text for people; `?` for None.

    >>> [duration(ms) for ms in (0, 7, 8.25, 812.4, 1234, 75_000, None)]
    ['0 ms', '7 ms', '8.2 ms', '812 ms', '1.2 s', '75 s', '?']
    """
    if ms is None:
        return "?"
    if ms < 1000:
        return f"{ms:.1f} ms" if isinstance(ms, float) and ms < 100 else f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms / 1000:.0f} s"


def address(status: "Status") -> str:
    """Return where a server listens: `127.0.0.1:4663` or `[::1]:4663 and 4664 (HTTPS)`."""
    host = f"[{status.host}]" if ":" in status.host else status.host
    secure = "" if status.https_port is None else f" and {status.https_port} (HTTPS)"
    return f"{host}:{status.http_port}{secure}"


def local_time(at: float | None) -> str:
    """Return seconds since the epoch as a local time; `-` for a time that has no date, which a container can give a file.

    >>> local_time(1e300), local_time(1e17)
    ('-', '-')
    """
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "-"


def ago(at: float | None) -> str:
    """Return how long ago that was, as text for people."""
    if at is None:
        return ""
    seconds = max(0, int(time.time() - at))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
