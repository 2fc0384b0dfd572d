"""A skip depends on the machine, never on the moment: each test asks `tests/isolation.py` which cells are allowed."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
#: Files that may ask by themselves: the tests of the question, and the one that asks for all.
ASKING = {"cell/test_report.py", "isolation.py", "house/test_skips.py"}


def asks(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that ask this process, or another one, which cells the machine allows."""
    for node in ast.walk(tree):
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "report.report") or (
            isinstance(node, ast.Constant) and node.value == "homeport.cell.report"
        ):
            yield node.lineno


def test_no_test_asks_by_itself_which_cells_are_allowed():
    asking = [
        f"{name}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if (name := path.relative_to(TESTS).as_posix()) not in ASKING
        for line in asks(ast.parse(path.read_text()))
    ]

    assert [] == asking, "call `isolation.needed()`"


def test_a_question_in_another_process_counts():
    tree = ast.parse(
        'report.report("x")\nrun(["-m", "homeport.cell.report"])\nisolation.report()\n'
    )

    assert [1, 2] == list(asks(tree))
