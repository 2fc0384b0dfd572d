"""No test sleeps: it waits for an event, or it has a virtual clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SLEEPS = ("time.sleep", "asyncio.sleep", "sleep")
VIRTUAL = ("virtually(", "@virtual")  # what a story on a virtual clock has in its code

#: File and its outermost function or class -> why it sleeps.
EXCEPTIONS = {
    "control/deploys/test_rollout.py:settled": "it is called in stories on a virtual clock",
    "fakes.py:FakeIngress": "it waits as HAProxy does, mostly on a virtual clock",
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
