"""`homeport deploy --canary`: a part of the requests goes to the new version, and nobody loses a request."""

import contextlib
import os
import signal
import threading
from collections import Counter

import httpx

from tests.waiting import wait_for

APP = """
    import os
    import time
    import modal

    app = modal.App("shop")

    @app.function(min_containers=1)
    @modal.concurrent(max_inputs=20)
    @modal.fastapi_endpoint()
    def version():
        {body}
        return 1
"""


def app(number: int, body: str = "pass") -> str:
    return APP.format(body=body).replace("return 1", f"return {number}")


@contextlib.contextmanager
def visitors(url: str, count: int = 4):
    """Ask all the time; yield how often each answer came: a version, a status or an error."""
    answers: Counter[object] = Counter()
    ended, lock = threading.Event(), threading.Lock()

    def visit():
        while not ended.is_set():
            with httpx.Client(timeout=60, trust_env=False) as client:
                for _ in range(10):
                    try:
                        answer = client.get(url)
                        found = (
                            answer.json() if answer.status_code == 200 else f"{answer.status_code}"
                        )
                    except httpx.HTTPError as error:
                        found = repr(error)
                    with lock:
                        answers[found] += 1
                    ended.wait(0.01)  # so that it leaves some of a small machine to the servers

    threads = [threading.Thread(target=visit) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: answers.total() > 10, "answers")
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def canary(terminal) -> dict:
    return terminal.json("app", "canary", "shop")


def new_requests(terminal) -> int:
    return sum(each["new_requests"] for each in canary(terminal)["endpoints"])


def test_a_canary_gets_its_share_survives_a_kill_and_is_promoted(terminal, write):
    url = terminal.deploy(write(app(1)))["version"]
    with visitors(url) as answers:
        terminal.deploy(write(app(2)), "--canary", "30%", "--for", "20s")
        wait_for(lambda: answers[2] >= 20, "answers of the new version")
        begun = canary(terminal)
        counted = wait_for(lambda: new_requests(terminal), "requests that are counted")
        (row,) = terminal.json("app", "list")
        history = terminal.json("app", "history", "shop")
        told = terminal.run("status").stdout

        os.kill(terminal.status()["pid"], signal.SIGKILL)
        before = answers[2]
        wait_for(lambda: answers[2] >= before + 20, "answers while no control plane runs")
        terminal.run("up")
        restored = canary(terminal)
        wait_for(lambda: new_requests(terminal) > counted, "what was counted before the kill")
        wait_for(lambda: canary(terminal)["state"] == "promoted", "the promotion")
        promoted = answers[1]
        before = answers[2]
        wait_for(lambda: answers[2] >= before + 100, "answers of the new version alone")

        assert answers[1] <= promoted + 4, "those that were under way"
    assert {1, 2} == set(answers), answers
    assert ("running", 30.0, 2, 1) == tuple(
        begun[name] for name in ("state", "percent", "version", "before")
    )
    assert begun["ends_at"] == restored["ends_at"]
    assert "running" == restored["state"]
    assert (1, "running") == (row["version"], row["canary"]["state"])
    assert [(2, "running"), (1, None)] == [(each["version"], each["canary"]) for each in history]
    assert "v2 gets 30% of the requests beside v1" in told
    last = terminal.json("app", "deploys", "shop")
    assert ["promote", "canary", "deploy"] == [each["kind"] for each in last]
    assert "0 failures" in last[0]["reason"]
    ended = terminal.json("request", "list", "--tail", "1000")
    assert {1, 2} == {each["version"] for each in ended}


def test_a_version_that_fails_or_is_slow_is_rolled_back_by_itself(terminal, write):
    url = terminal.deploy(write(app(1)))["version"]
    with visitors(url) as answers:
        terminal.deploy(write(app(2, "raise ValueError('bad')")), "--canary", "20%")
        wait_for(lambda: answers["500"], "a failure")
        wait_for(lambda: canary(terminal)["state"] == "rolled back", "the end of the bad version")
        failed, before = answers["500"], answers[1]
        wait_for(lambda: answers[1] >= before + 100, "answers of the old version")
        assert answers["500"] <= failed + 2, "those that were under way"

        terminal.deploy(write(app(3, "time.sleep(0.4)")), "--canary", "20%")
        wait_for(lambda: answers[3], "a slow answer")
        wait_for(lambda: canary(terminal)["state"] == "rolled back", "the end of the slow version")
    assert {1, 3, "500"} == set(answers), answers
    slow, _, bad, *_ = terminal.json("app", "deploys", "shop")
    assert ("rollback", "rollback") == (slow["kind"], bad["kind"])
    assert "95th percentile" in slow["reason"]
    assert "requests of the new version failed" in bad["reason"]
    assert 1 == terminal.json("app", "list")[0]["version"]
    assert "canary: v3 of `shop` was rolled back" in terminal.run("status").stderr
    rows = terminal.json("audit", "--tail", "50")
    assert 2 == sum((row["by"], row["action"]) == ("server", "app rollback") for row in rows)
