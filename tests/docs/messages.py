"""Every text in the package that could be part of a message, with `…` for what a program puts in."""

import ast
import functools
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src/homeport"
FILLED = re.compile(r"%[sd]|%\.\df|\{\w+\}")


@functools.cache
def texts() -> str:
    """One text a line."""
    nodes = (
        node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
    )
    found = [" ".join(FILLED.sub("…", text).split()) for node in nodes if (text := _text(node))]
    for path in PACKAGE.rglob("*.lua"):
        found += [re.sub(r'" \.\. .+? \.\. "', "…", line) for line in path.read_text().splitlines()]
    return "\n".join(found)


def exists(message: str) -> bool:
    """Return whether a text of the package has each part between two `…` in this order."""
    parts = [re.escape(part) for part in message.split("…")]
    return re.search("[^\n]*".join(parts), texts()) is not None


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
