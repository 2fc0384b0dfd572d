"""No test says how fast something has to be: the machine may be busy with other work.

Virtual time is not meant, as in `tests/control/fleet`. A benchmark (`bench/`) measures; a test waits for an event.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "perf_counter", "time"}


def limits(tree: ast.AST) -> list[int]:
    """Return the lines with an `assert` that real time which has passed is below something."""
    found = []
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        names = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and passed(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Assert):
                found += [node.lineno for small in smaller(node.test) if passed(small, names)]
    return sorted(set(found))


def smaller(test: ast.AST) -> list[ast.AST]:
    """Return each side of the comparisons that has to be the smaller one."""
    found = []
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for number, kind in enumerate(node.ops):
                if isinstance(kind, (ast.Lt, ast.LtE)):
                    found.append(sides[number])
                elif isinstance(kind, (ast.Gt, ast.GtE)):
                    found.append(sides[number + 1])
    return found


def passed(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression is the time that has passed, or one of these names."""
    if isinstance(node, ast.Name):
        return node.id in names
    return any(
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and now(node.left)
        for node in ast.walk(node)
    )


def now(node: ast.AST) -> bool:
    """Whether an expression is `time.monotonic()`, or another of the clocks."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCKS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "time"
    )


def test_no_test_limits_the_time_that_passes():
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in TESTS.rglob("*.py")
        if "soak" not in path.parts
        for line in limits(ast.parse(path.read_text()))
    ]

    assert [] == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("assert time.monotonic() - began < 5", [2]),
        ("took = time.perf_counter() - began\n    assert took <= 5", [3]),
        ("took = (time.time() - began) * 1000\n    assert 5 > took", [3]),
        ("assert time.monotonic() - began > 1", []),
        ("assert elapsed() - began < 1", []),
        ("took = time.monotonic() - began\n    assert told <= took", []),
    ],
)
def test_a_limit_is_found_and_a_least_time_is_none(text, expected):
    assert expected == limits(ast.parse(f"def test():\n    {text}"))
