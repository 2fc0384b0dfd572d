"""Tests ask about processes, directories and free ports where the races of such questions are thought of."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: A text that no test has -> the file with what the test needs.
WRONG = {
    r"psutil\.pid_exists\(": "tests/processes.py",  # it is true of a zombie
    r"\b_free_port\(|create_server\(\(.*, 0\)\) as (free|probe)": "tests/ports.py",  # the next who asks gets it too
    r"\.rglob\(\"\*\"\)": "tests/trees.py",  # a directory goes between its name and its list
}


def test_tests_ask_where_a_race_is_no_fault():
    found = {
        f"{path.relative_to(TESTS).as_posix()}:{number}: use {better}"
        for path in sorted(TESTS.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for pattern, better in WRONG.items()
        if path != Path(__file__) and re.search(pattern, line)
    }

    assert set() == found


def given_away(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that return a socket's port from the block at whose end the socket is closed."""
    for block in ast.walk(tree):
        if isinstance(block, ast.With) and "socket." in ast.unparse(block.items[0].context_expr):
            for node in ast.walk(block):
                if isinstance(node, ast.Return) and "getsockname" in ast.unparse(node):
                    yield node.lineno


def test_no_test_gives_a_port_away_that_it_has_seen_to_be_free():
    found = [
        f"{path.relative_to(TESTS).as_posix()}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in given_away(ast.parse(path.read_text()))
    ]

    assert [] == found, "use tests/ports.py: another program may take the port meanwhile"


def killed(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that kill the group of a process which may have been waited for: its id may be another's."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.killpg":
                of = ast.unparse(node.args[0]).removesuffix(".pid")
                if f"{of}.poll() is None" not in ast.unparse(function):
                    yield node.lineno


#: File -> why the process cannot have been waited for.
UNWAITED = {
    "journeys/test_run.py": "Ctrl-C, while the command runs",
    "mutate/copied.py": "at a timeout of the wait",
}


def test_a_test_that_kills_a_group_knows_that_its_leader_has_not_been_waited_for():
    found = {
        path.relative_to(TESTS).as_posix()
        for path in sorted(TESTS.rglob("*.py"))
        if path != Path(__file__) and any(killed(ast.parse(path.read_text())))
    }

    assert set() == found - set(UNWAITED), "ask `process.poll() is None` before"
    assert set() == set(UNWAITED) - found, "an exception that is not needed any more"


@pytest.mark.parametrize(
    ("check", "text", "expected"),
    [
        (given_away, "with socket.socket() as s:\n    return s.getsockname()[1]", [3]),
        (given_away, "with socket.socket() as s:\n    use(s.getsockname()[1])", []),
        (killed, "p.wait()\nos.killpg(p.pid, 9)", [3]),
        (killed, "if p.poll() is None:\n    os.killpg(p.pid, 9)", []),
    ],
)
def test_such_a_line_is_found(check, text, expected):
    lines = text.replace("\n", "\n    ")
    assert expected == [*check(ast.parse(f"def test():\n    {lines}"))]


def started(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that start one of homeport's own modules, with the words before its name."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple)) or (
            isinstance(node, ast.Call) and ast.unparse(node.func).endswith("create_subprocess_exec")
        ):
            words = [ast.unparse(word) for word in getattr(node, "elts", getattr(node, "args", []))]
            if "'-m'" in words[1:] and not any("uv" in word or "poetry" in word for word in words):
                yield node.lineno, words


def test_homeports_modules_are_started_without_the_current_directory():
    """Else a user's `secrets.py` there would be imported in the place of Python's own module."""
    source = TESTS.parent / "src/homeport"
    found = [
        f"{path.relative_to(source).as_posix()}:{line}"
        for path in sorted(source.rglob("*.py"))
        for line, words in started(ast.parse(path.read_text()))
        if "'-P'" not in words
        and not any("homeport.runner" in word for word in words)  # Python 3.10 has no -P
        and "'install'" not in words
    ]

    assert [] == found
