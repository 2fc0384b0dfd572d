"""`python -m tests.mutate` breaks lines that do something, in each way, and nothing else."""

import ast
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutate.breaks import breaks_of
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
WHERE = Path("some/module.py")


def broken(source: str) -> set[tuple[int, str, str]]:
    """Return each break of a file: its line, its kind, and that line afterwards."""
    text = source.encode()
    found = [each for breaks in breaks_of(WHERE, text) for each in breaks]
    after = {each: each.applied(text).decode() for each in found}
    assert all(ast.parse(whole) for whole in after.values())
    return {(e.line, e.kind, after[e].splitlines()[e.line - 1].strip()) for e in found}


@pytest.mark.parametrize(
    ("source", "ways"),
    [
        ("x = f()", {("deleted", "pass")}),
        ("x = True", {("deleted", "pass"), ("constant", "x = False")}),
        ("x = [2]", {("deleted", "pass"), ("constant", "x = [3]")}),
        ("x = 'ä', 'b'", {("deleted", "pass"), ("constant", "x = 'ä', 'bx'"), ("constant", "x = 'äx', 'b'")}),
        ("x = a if b else c", {("deleted", "pass"), ("negated", "x = a if not (b) else c")}),
        ("if a or b: f()", {("negated", "if not (a or b): f()"), ("deleted", "if a or b: pass")}),
        ("for x in f(): g()", {("no rounds", "for x in (): g()"), ("deleted", "for x in f(): pass")}),
        ("def f(): return g()", {("deleted", "def f(): pass"), ("returns None", "def f(): return None")}),
        ("raise Error('a b', 'c')", {("deleted", "pass")}),
        ("log.info('it says %s', x)", {("deleted", "pass")}),
    ],
)  # fmt: skip
def test_a_line_is_broken_in_each_of_its_ways(source, ways):
    assert {(1, *way) for way in ways} == broken(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "import os",
        "from os import path",
        "x: int",
        "__all__ = ['a']",
        "if TYPE_CHECKING: import os",
        "class A(Protocol):\n    def f(self) -> int: ...",
    ],
)
def test_a_line_that_does_nothing_is_not_broken(source):
    assert set() == broken(source)


def test_a_break_of_a_text_alone_is_known_as_such():
    (one,), (other,) = breaks_of(WHERE, b"await say(a)\nf(a)\n")

    assert (True, False) == (one.spoken, other.spoken)


#: Runs a daemon in the sandbox, which holds a lock for as long as it lives.
MUTATES = """
import os, sys
from pathlib import Path
from tests.mutate.alone import running
daemon = "setsid flock locked sh -c 'echo yes >held; sleep 600' & wait"
with running(["sh", "-c", daemon], Path(sys.argv[1]), os.environ) as process:
    process.wait()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces for the tests")
@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_all_processes_of_a_run_end_with_the_process_that_started_it(tmp_path, ended):
    words = [sys.executable, "-c", MUTATES, tmp_path]
    mutates = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "held").exists, "the daemon")
    with open(tmp_path / "locked") as locked, pytest.raises(BlockingIOError):
        fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)

    mutates.send_signal(ended)
    mutates.wait()
    with open(tmp_path / "locked") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
