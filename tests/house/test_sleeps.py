"""No test sleeps: it waits for an event, or it has a virtual clock.

A program in a test, as text, may sleep: until the test ends it, or between two looks at a condition. If it takes a time that
is the thing under test, `TAKES_TIME` says so; each other one has to wait for its test.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SLEEPS = ("time.sleep", "asyncio.sleep", "sleep")
VIRTUAL = ("virtually(", "@virtual")  # what a story on a virtual clock has in its code

#: The sleep of a program, in a text.
IN_TEXT = re.compile(r"(?<!virtual )\bsleep(?:\(|[ ]|[\"'], [\"'])([^)\"',;\n]*)")
LOOP = re.compile(r"^\s*(?:async )?(?:while|for)\b.*:|\bwhile\b.*:")
LONGEST_LOOK_S = 0.1
FOR_EVER_S = 30.0

#: File and its outermost function or class -> why it sleeps.
EXCEPTIONS = {
    "control/fleet/test_looking.py:Machine": "it answers late, on a virtual clock",
    "control/deploys/test_rollout.py:settled": "it is called in stories on a virtual clock",
    "fakes/ingress.py:FakeIngress": "it waits as HAProxy does, mostly on a virtual clock",
    "ingress/test_ring.py:test_each_request_and_call_is_told_with_its_parts": "the time in which it is parked is what is tested",
    "ingress/test_slots.py:Careless": "a program that answers late",
    "journeys/test_restarts.py:test_a_kill_at_any_point_of_a_deploy_leaves_the_old_version_or_the_new_one": "it kills at a random moment",
    "roles/test_ingress.py:test_the_first_answer_of_each_container_is_told_once_however_many_it_gives": "the request's time is what is tested",
    "runner/servers/test_admission.py:answers": "a user's app, which a test cancels",
    "waiting.py:until": "all other tests call it",
    "waiting.py:wait_for": "all other tests call it",
}


def sleeping() -> Iterator[str]:
    """Yield each outermost function or class that sleeps on the real clock."""
    for path in sorted(TESTS.rglob("*.py")):
        for outermost in ast.parse(path.read_text()).body:
            for node in ast.walk(outermost):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) not in SLEEPS:
                    continue
                if "0" == ast.unparse(node.args[0]):
                    continue  # the loop's next turn: no time passes
                if not any(word in ast.unparse(outermost) for word in VIRTUAL):
                    name = getattr(outermost, "name", "")
                    yield f"{path.relative_to(TESTS).as_posix()}:{name}"


def test_no_test_sleeps():
    found = set(sleeping())

    assert set() == found - set(EXCEPTIONS), "use tests/waiting.py"
    assert set() == set(EXCEPTIONS) - found, "an exception that is not needed any more"


#: File and its outermost name -> why a program in it takes so long.
TAKES_TIME = {
    "journeys/test_two_agents.py:SCRIPT": "a request lasts while an agent is killed",
    "journeys/test_canary.py:test_a_version_that_fails_or_is_slow_is_rolled_back_by_itself": "the version is slow",
    "journeys/test_cold_starts.py:APP": "the parts of a cold start are measured",
    "journeys/test_cold_starts.py:BROKEN": "the parts of a cold start are measured",
    "journeys/test_cold_starts.py:test_a_slow_import_and_a_slow_hook_are_found_by_name_in_their_parts": "the import is slow",
    "journeys/test_deploy.py:test_one_request_at_a_time_is_the_default": "two requests would overlap in that time",
    "journeys/test_lost_machines.py:FUNCTION": "a request lasts while a machine dies",
    "journeys/test_elsewhere.py:THERE": "work goes on after a response, and a request lasts while the control plane is killed",
    "journeys/test_limits.py:test_a_request_for_a_single_use_container_waits_until_the_container_before_has_ended": "longer than a request looks for a container by itself",
    "node/zygotes/test_nursery.py:test_the_time_of_a_snapshot_counts_for_the_start_that_waited_for_it": "a start is measured",
    "runner/servers/test_as_under_uvicorn.py:SYSTEM_EXIT": "the app does not see what ends the loop",
    "runner/servers/test_bodies.py:ASGI": "work that is longer than a body may pause",
    "runner/servers/test_bodies.py:PORT": "work that is longer than a body may pause",
    "runner/servers/test_bodies.py:WSGI": "work that is longer than a body may pause",
    "runner/test_report.py:SCRIPT": "an import and its hooks are measured",
    "runner/test_report.py:test_an_import_that_fails_is_told_with_its_time": "an import is measured",
}


def programs() -> Iterator[str]:
    """Yield each outermost name with a program that sleeps for a while, and then goes on by itself."""
    for path in sorted({*TESTS.rglob("*.py")} - {Path(__file__)}):
        for outermost in ast.parse(path.read_text()).body:
            if any(goes_on(*each) for text in texts(outermost) for each in sleeps(text)):
                yield f"{path.relative_to(TESTS).as_posix()}:{named(outermost)}"


def texts(node: ast.AST) -> Iterator[str]:
    """Yield each text in the code, an f-string as a whole."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(getattr(part, "value", "")) for part in map(plain, node.values))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def plain(part: ast.expr) -> ast.Constant:
    return part if isinstance(part, ast.Constant) else ast.Constant("?")


def sleeps(text: str) -> Iterator[tuple[str, bool]]:
    """Yield how long each sleep of a program is, and whether it is inside a loop."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for match in IN_TEXT.finditer(line):
            depth = len(line) - len(line.lstrip())
            yield (
                match[1].strip(),
                any(LOOP.search(each) for each in (*around(lines[:number], depth), line)),
            )


def around(lines: list[str], depth: int) -> Iterator[str]:
    """Yield the lines that begin the blocks around a line of this depth, the innermost first."""
    for line in reversed(lines):
        if line.strip() and len(line) - len(line.lstrip()) < depth:
            depth = len(line) - len(line.lstrip())
            yield line


def goes_on(duration: str, in_loop: bool) -> bool:
    """Whether a program goes on by itself after such a sleep."""
    try:
        duration_s = float(duration)
    except ValueError:
        return False  # the test says how long
    return 0 < duration_s < FOR_EVER_S and not (in_loop and duration_s <= LONGEST_LOOK_S)


def named(outermost: ast.stmt) -> str:
    if isinstance(outermost, ast.Assign):
        return ast.unparse(outermost.targets[0])
    return str(getattr(outermost, "name", ""))


def test_a_program_of_a_test_waits_for_the_test():
    found = set(programs())

    assert set() == found - set(TAKES_TIME), "let the program wait for a file or a socket"
    assert set() == set(TAKES_TIME) - found, "an exception that is not needed any more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time.sleep(1)", True),
        ("echo begun; sleep 2; echo ended", True),
        ("while not ready():\n    time.sleep(0.05)", False),
        ("while not ready():\n    pass\ntime.sleep(0.05)", True),
        ("while True:\n    time.sleep(1)", True),
        ("time.sleep(600)", False),
        ("['sleep', '60']", False),
        ("await asyncio.sleep(0)", False),
        ("time.sleep(seconds)", False),
    ],
)
def test_a_program_that_goes_on_by_itself_is_found(text, expected):
    assert expected is any(goes_on(*each) for each in sleeps(text))
