"""What a measure found, and how it is written down. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: What a contender cannot do; a footnote says why.
DASH = "–"  # noqa: RUF001 - it is one


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the report; a cell is text, or (DASH or text, footnote)."""

    title: str
    told: str = ""  # what was done, in a sentence or two
    columns: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One thing that costs more than it must, beside what it could be."""

    what: str
    now: str
    beside: str  # what others take, in the same run
    goal: str


@dataclass(kw_only=True)
class Findings:
    """Everything of one run."""

    tables: list[Table] = field(default_factory=list)
    #: What the tables say of the goals.
    limits: list[Limit] = field(default_factory=list)
    #: What stands above them: a sentence each.
    headlines: list[str] = field(default_factory=list)
    #: What went wrong: measure or contender -> why.
    failures: dict[str, str] = field(default_factory=dict)
    #: For the plot: figure -> label -> values of the runs.
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def render(table: Table) -> list[str]:
    """Markdown, with the footnotes below the table."""
    notes: dict[str, int] = {}
    lines = [f"## {table.title}", ""]
    if table.told:
        lines += [table.told, ""]
    lines += [_line(table.columns), _line(["---"] + ["---:"] * (len(table.columns) - 1))]
    for row in table.rows:
        cells = []
        for cell in row:
            if isinstance(cell, str):
                cells.append(cell)
                continue
            text, note = cell
            cells.append(f"{text} <sup>{notes.setdefault(note, len(notes) + 1)}</sup>")
        lines.append(_line(cells))
    lines.append("")
    if notes:
        lines += [f"<sup>{number}</sup> {note}  " for note, number in notes.items()]
        lines.append("")
    return lines


def at_the_limit(limits: Sequence[Limit]) -> list[str]:
    """The goals in one table, each with what it was measured beside; nothing where none was measured."""
    if not limits:
        return []
    table = Table(
        title="At the limit",
        told="What homeport takes, what others take for the same in this run, and the goal. "
        "PROFILES.md says where the time and the memory go for each goal that is missed.",
        columns=["", "now", "beside it", "goal"],
        rows=[[each.what, each.now, each.beside, each.goal] for each in limits],
    )
    return render(table)


def failures(told: Mapping[str, str]) -> list[str]:
    """What could not be measured, and why; nothing where all could."""
    if not told:
        return []
    return [
        "## What could not be measured",
        "",
        *(f"- **{what}**: {' '.join(why.split())}" for what, why in told.items()),
        "",
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
