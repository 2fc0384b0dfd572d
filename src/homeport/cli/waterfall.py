"""`homeport request show`: draws the parts of a request as bars below each other, with what was printed meanwhile.

All bars have one scale: the whole request. A line of the log is below the part during which it was printed.
"""

from rich.text import Text

from homeport.cli import output, terminal
from homeport.cli.coldstarts import PARTS as START
from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.api.requests import RecordedRequest, RequestDetail
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass
from homeport.contract.waterfall import MEANINGS, Step, steps

WIDTH = 40
NAME = 14
_COLOURS = {
    "received": "blue",
    "parked": "white",
    "queued": "yellow",
    "connected": "blue",
    "app": "green",
    "stream": "cyan",
}
_OF_START = {part.key: (part.colour, part.meaning) for part in START}


@dataclass(frozen=True, slots=True)
class Row:
    """One bar: milliseconds from the request's beginning."""

    name: str
    begin_ms: float
    took_ms: float
    colour: str
    meaning: str
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
                (row.meaning, "dim"),
            )
        )
        end_ms = row.begin_ms + row.took_ms
        while lines and not row.inner and _after_ms(lines[0], request) < end_ms:
            _print(lines.pop(0), request)
    for line in lines:  # printed after the response, or by a clock that runs differently
        _print(line, request)


def parts(request: RecordedRequest, start: ColdStart | None) -> list[Row]:
    """Return the bars: a request's parts, and below `parked` those of the start that it waited for."""
    return [
        Row(step.name, step.begin_ms, step.took_ms, *_look(step), inner=step.inner)
        for step in steps(request, start)
        if not step.inner or step.name in _OF_START
    ]


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


def _look(step: Step) -> tuple[str, str]:
    """Return a part's colour, and its description."""
    if step.inner:
        return _OF_START[step.name]
    return _COLOURS.get(step.name, "white"), MEANINGS.get(step.name, "")


def _after_ms(line: LogLine, request: RecordedRequest) -> float:
    return (line.at - request.at) * 1000


def _print(line: LogLine, request: RecordedRequest) -> None:
    for piece in terminal.pieces(line.text):
        stamp = f"{'':<{NAME}} +{max(_after_ms(line, request), 0):.0f} ms  "
        output.out().print(Text.assemble((stamp, "dim"), piece))
