"""The ways in which a line of code can be broken.

A break is a replacement of a part of one statement. Lines that do nothing when they run
(imports, docstrings, annotations, `__all__`) and the texts of messages are never broken.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Functions and methods whose result is text for people.
SPOKEN = {"debug", "info", "warning", "error", "exception", "say", "said", "print"}
IGNORED = (ast.Import, ast.ImportFrom, ast.Pass, ast.Global, ast.Nonlocal)
COMPOUND = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Try,
    ast.TryStar,
    ast.With,
    ast.AsyncWith,
    ast.AsyncFor,
    ast.Match,
)


@dataclass(frozen=True)
class Break:
    """A change of a file: the bytes from `start` to `end` become `text`."""

    path: Path
    line: int
    kind: str
    start: int
    end: int
    text: str
    spoken: bool = False  # the line only tells something to people

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def breaks_of(path: Path, source: bytes) -> list[list[Break]]:
    """Return the breaks of each statement of a file that does something."""
    file = _File(path, source)
    found = ([*file.breaks(statement)] for statement in statements(ast.parse(source)))
    return [breaks for breaks in found if breaks]


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that do something when they run, in the order of the file."""
    for statement in _all(tree.body):
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        bare = isinstance(statement, ast.AnnAssign) and statement.value is None
        names = isinstance(statement, ast.Assign) and ast.unparse(statement).startswith("__")
        if not (docstring or bare or names or isinstance(statement, (*IGNORED, *COMPOUND))):
            yield statement


def _all(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        if isinstance(statement, ast.ClassDef) and "Protocol" in map(ast.unparse, statement.bases):
            continue
        yield statement
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            inner = getattr(statement, part, [])
            for each in inner if isinstance(inner, list) else []:
                yield from _all([each] if isinstance(each, ast.stmt) else each.body)


class _File:
    def __init__(self, path: Path, source: bytes) -> None:
        self._path = path
        lengths = [len(line) for line in source.splitlines(keepends=True)]
        self._starts = [sum(lengths[:number]) for number in range(len(lengths))]

    def breaks(self, statement: ast.stmt) -> Iterator[Break]:
        if isinstance(statement, (ast.If, ast.While)):
            yield self._break(
                "negated", statement, statement.test, f"not ({_text(statement.test)})"
            )
        elif isinstance(statement, ast.For):
            yield self._break("no rounds", statement, statement.iter, "()")
        else:
            yield self._break("deleted", statement, statement, "pass")
            if isinstance(statement, ast.Return) and _text(statement.value) != "None":
                yield self._break("returns None", statement, statement, "return None")
        for node in _simple(statement):
            if isinstance(node, ast.IfExp):
                yield self._break("negated", statement, node.test, f"not ({_text(node.test)})")
            elif (changed := _changed(node)) is not None:
                yield self._break("constant", statement, node, changed)

    def _break(self, kind: str, statement: ast.stmt, node: ast.AST, text: str) -> Break:
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        return Break(self._path, statement.lineno, kind, start, end, text, _spoken(statement))


def _simple(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the expressions of a statement itself, without those of its body and of its texts."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.JoinedStr, ast.Raise)):
            continue
        parts = ast.iter_child_nodes(node)
        waiting += [part for part in parts if not isinstance(part, (ast.stmt, ast.ExceptHandler))]


def _changed(node: ast.AST) -> str | None:
    """Return another constant in the place of this one; None if there is none, or if it is prose."""
    match node:
        case ast.Constant(value=bool() as value):
            return str(not value)
        case ast.Constant(value=int() | float() as value):
            return str(value + 1)
        case ast.Constant(value=str() as value) if value and " " not in value:
            return repr(value + "x")
        case ast.Constant(value=bytes() as value) if value and b" " not in value:
            return repr(value + b"x")
    return None


def _spoken(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Await):
        call = call.value
    return isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in SPOKEN


def _text(node: ast.AST | None) -> str:
    return "None" if node is None else ast.unparse(node)
