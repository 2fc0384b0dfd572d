"""`homeport app cold-starts`: draws the parts of each start as a bar of letters.

A bar can be read without colour: each part begins with its letter, and the legend below explains the
letters. All bars of a chart have the same scale.
"""

import statistics
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.text import Text

from homeport.cli import output
from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.dataclass import dataclass

WIDTH = 100
BAR = 30
NAME = 16  # of a function, at most
IMPORTS = 10
LEAST_MS = 0.5  # a part that took less gets no letter


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a start, and how the chart draws it."""

    key: str
    letter: str
    fill: str
    colour: str
    meaning: str


PARTS = (
    Part("parked", "p", "·", "white", "until the start was decided"),
    Part("scheduled", "s", "-", "yellow", "until its turn came: only so many start at once"),
    Part("forked", "f", "░", "blue", "until its process was there; a zygote's own start, if it waited"),
    Part("imported", "i", "█", "cyan", "the script and what it imports"),
    Part("entered", "e", "▓", "magenta", "enter hooks, snap=True included"),
    Part("listening", "l", "▒", "green", "making the app, its lifespan, the socket"),
    Part("attached", "a", "=", "yellow", "until HAProxy knew of it"),
    Part("first_byte", "b", "▄", "red", "the first answer, from its request to its first byte"),
)  # fmt: skip


def show(starts: Sequence[ColdStart]) -> None:
    """Print the chart, the legend with medians, and the slowest imports."""
    longest_ms = max(start.total_ms for start in starts)
    notes: dict[str, int] = {}
    rows = []
    for start in starts:
        why = [w for w in (start.why_fresh and f"fresh: {start.why_fresh}",
                           start.failed and f"failed: {start.failed}") if w]  # fmt: skip
        marks = "".join(f"({notes.setdefault(note, len(notes) + 1)})" for note in why)
        rows.append(
            (
                datetime.fromtimestamp(start.at).astimezone().strftime("%m-%d %H:%M:%S"),
                textwrap.shorten(start.function, NAME, placeholder="…"),
                start.container,
                f"{'failed' if start.failed else start.origin}{marks}",
                output.duration(start.total_ms),
                bar(start.timings_ms, longest_ms),
            )
        )
    output.show_table(("When", "Function", "Container", "Began", "Total", ""), rows, empty="")
    out = output.out()
    for note, number in notes.items():
        lines = textwrap.wrap(note, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
        for count, line in enumerate(lines):
            out.print(f"{'' if count else f'({number})':>5} {line}")
    out.print()
    _legend(starts)
    if slowest := slowest_imports(starts):
        out.print()
        of = [
            (name, output.duration(ms), f"{count} of {len(starts)}") for name, ms, count in slowest
        ]
        output.show_table(("Slowest imports", "Median", "Starts"), of, empty="")


def bar(timings_ms: dict[str, float], longest_ms: float, width: int = BAR) -> Text:
    """Return a start's parts side by side; `longest_ms` fills the width.

    >>> bar({"forked": 2.0, "imported": 6.0, "entered": 0.1}, 8.0, width=8).plain
    'f░i█████'
    """
    text = Text()
    passed_ms, drawn = 0.0, 0
    for part in PARTS:
        took_ms = timings_ms.get(part.key, 0.0)
        passed_ms += took_ms
        end = round(width * passed_ms / longest_ms) if longest_ms else 0
        cells = max(end - drawn, int(took_ms >= LEAST_MS))
        if cells > 0:
            text.append(f"{part.letter}{part.fill * (cells - 1)}", style=part.colour)
            drawn += cells
    text.truncate(width)
    return text


def medians_ms(starts: Iterable[ColdStart]) -> dict[str, float]:
    """Return the median of each part, over the starts that had it."""
    values: dict[str, list[float]] = {}
    for start in starts:
        for key, ms in start.timings_ms.items():
            values.setdefault(key, []).append(ms)
    return {key: statistics.median(durations) for key, durations in values.items()}


def slowest_imports(starts: Iterable[ColdStart]) -> list[tuple[str, float, int]]:
    """Return each module's name, median milliseconds and number of starts; the slowest first."""
    values: dict[str, list[float]] = {}
    for start in starts:
        for name, ms in start.imports_ms.items():
            values.setdefault(name, []).append(ms)
    imports = [(name, statistics.median(ms), len(ms)) for name, ms in values.items()]
    return sorted(imports, key=lambda row: -row[1])[:IMPORTS]


def _legend(starts: Sequence[ColdStart]) -> None:
    ready = [start for start in starts if not start.failed]
    medians = medians_ms(ready)
    rows: list[tuple[object, ...]] = [
        (
            Text(f"{part.letter}{part.fill}", style=part.colour),
            part.key.replace("_", " "),
            output.duration(medians.get(part.key)),
            part.meaning,
        )
        for part in PARTS
    ]
    if ready:
        total = statistics.median(start.total_ms for start in ready)
        rows.append(("", "total", output.duration(total), f"of {len(ready)} that became ready"))
    output.show_table(("", "Part", "Median", ""), rows, empty="")
