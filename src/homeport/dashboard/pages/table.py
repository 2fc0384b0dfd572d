"""A plain table of values; most of the smaller pages consist of them."""

from collections.abc import Sequence

from markupsafe import Markup

from homeport.contract.dataclass import dataclass
from homeport.dashboard import render


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; `kind` is `n` for numbers, `code`, `state`, or empty for text."""

    name: str
    kind: str = ""
    full: bool = False  # on a narrow screen it takes a line of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A value with more to it than its text."""

    text: object
    href: str = ""
    note: str = ""  # below it
    bad: str = ""  # below it: what is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line; its first cell names it."""

    id: str
    cells: Sequence[object]
    bad: bool = False
    off: bool = False


def table(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    empty: str,
    id: str = "rows",  # noqa: A002 - HTML's
) -> Markup:
    """Return a table with its title; without rows it shows `empty`."""
    shown = [
        (row, [cell if isinstance(cell, Cell) else Cell(text=cell) for cell in row.cells])
        for row in rows
    ]
    return render.template("table", title=title, columns=columns, rows=shown, empty=empty, id=id)
