"""Small pieces of Markdown."""

from collections.abc import Iterable, Sequence

GENERATED = "<!-- Made by docs/generate from the code: change the code, not this page. -->\n"


def page(title: str, *parts: str) -> str:
    """A page: its title and its parts, with a blank line between."""
    return "\n\n".join([f"# {title}", GENERATED, *(part for part in parts if part)]) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty where it has no row."""
    lines = [_row(row) for row in rows]
    if not lines:
        return ""
    return "\n".join([_row(columns), _row(["---"] * len(columns)), *lines])


def code(text: str) -> str:
    """Text as code; empty stays empty."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """Text with a capital letter and a full stop.

    >>> sentence("the URL")
    'The URL.'
    >>> sentence("`modal` is homeport.")
    '`modal` is homeport.'
    """
    text = " ".join(text.split())
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "…", ":")) else ".")


def _row(cells: Sequence[str]) -> str:
    # Python-Markdown keeps a `|` inside of code together, and would show a backslash there.
    return "| " + " | ".join(cell.replace("\n", " ") for cell in cells) + " |"
