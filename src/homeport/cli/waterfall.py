"""`homeport request show`: draws the parts of a request as bars below each other, with what was printed meanwhile.

All bars have one scale: the whole request. A line of the log is below the part during which it was printed.
"""

from collections.abc import Iterator

from rich.text import Text

from homeport.cli import output, terminal
from homeport.cli.coldstarts import PARTS as START
from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.api.requests import RecordedRequest, RequestDetail
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass

WIDTH = 40
NAME = 14
#: Part -> its colour, and what it is.
TOLD = {
    "received": ("blue", "until the head of the request had arrived"),
    "parked": ("white", "no container was ready"),
    "queued": ("yellow", "all slots of the containers were taken"),
    "connected": ("blue", "until the container had the request"),
    "app": ("green", "the app, until the first byte of its response"),
    "stream": ("cyan", "the rest of the response, at the visitor's pace"),
}
_OF_START = {part.key: (part.colour, part.told) for part in START}


@dataclass(frozen=True, slots=True)
class Row:
    """One bar: milliseconds from the request's beginning."""

    name: str
    begin_ms: float
    took_ms: float
    colour: str
    told: str
    inner: bool = False  # a part of the container's start


def show(detail: RequestDetail) -> None:
    """Print the bars, and the lines of the log between them."""
    out = output.out()
    request, rows = detail.request, parts(detail.request, detail.start)
    lines = list(detail.lines)
    for row in rows:
        name = f"  {row.name}" if row.inner else row.name
        out.print(
            Text.assemble(
                f"{name.replace('_', ' '):<{NAME}} ",
                (bar(row, request.total_ms), row.colour),
                f" {output.duration(row.took_ms):>8}  ",
                (row.told, "dim"),
            )
        )
        end_ms = row.begin_ms + row.took_ms
        while lines and not row.inner and _after_ms(lines[0], request) < end_ms:
            _print(lines.pop(0), request)
    for line in lines:  # printed after the response, or by a clock that runs differently
        _print(line, request)


def parts(request: RecordedRequest, start: ColdStart | None) -> list[Row]:
    """Return the bars: a request's parts, and below `parked` those of the start that it waited for."""
    rows: list[Row] = []
    at_ms = 0.0
    for name, took_ms in request.parts_ms.items():
        rows.append(Row(name, at_ms, took_ms, *TOLD.get(name, ("white", ""))))
        if name == "parked" and start is not None:
            rows += _of_start(request, start, at_ms + took_ms)
        at_ms += took_ms
    return rows


def bar(row: Row, total_ms: float, width: int = WIDTH) -> str:
    """Return a bar as text, with blanks before and after it.

    >>> bar(Row("app", 50, 25, "", ""), 100, width=8)
    '    ██  '
    >>> bar(Row("app", 100, 0, "", ""), 100, width=8)
    '       ▏'
    """
    scale = width / total_ms if total_ms else 0.0
    begin = min(round(max(row.begin_ms, 0) * scale), width - 1)
    cells = min(round(row.took_ms * scale), width - begin)
    return f"{' ' * begin}{'█' * cells or '▏'}".ljust(width)


def _of_start(request: RecordedRequest, start: ColdStart, until_ms: float) -> Iterator[Row]:
    """Yield the parts of a container's start, as far as the request waited for them."""
    at_ms = (start.at - request.at) * 1000
    for key, took_ms in start.timings_ms.items():
        begin_ms, end_ms = max(at_ms, 0.0), min(at_ms + took_ms, until_ms)
        at_ms += took_ms
        if end_ms > begin_ms and key in _OF_START and key not in ("parked", "first_byte"):
            yield Row(key, begin_ms, end_ms - begin_ms, *_OF_START[key], inner=True)


def _after_ms(line: LogLine, request: RecordedRequest) -> float:
    return (line.at - request.at) * 1000


def _print(line: LogLine, request: RecordedRequest) -> None:
    for piece in terminal.pieces(line.text):
        stamp = f"{'':<{NAME}} +{max(_after_ms(line, request), 0):.0f} ms  "
        output.out().print(Text.assemble((stamp, "dim"), piece))
