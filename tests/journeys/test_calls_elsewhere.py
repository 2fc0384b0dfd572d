"""A container of another machine calls functions, shares objects and reaches URLs, as one of the first machine does."""

import json
import subprocess
import sys

import pytest

from tests.journeys import machines
from tests.journeys.machines import READY
from tests.waiting import PATIENCE_S, wait_for

APP = '''
import http.client
import json
import subprocess
import sys
import os
import socket
import time
import urllib.request

import homeport

app = homeport.App("far")
state = homeport.Dict.from_name("state", create_if_missing=True)
jobs = homeport.Queue.from_name("jobs", create_if_missing=True)
ME = os.environ.get("MODAL_TASK_ID")


@app.function(min_containers=2)
@homeport.concurrent(max_inputs=10)
def double(x):
    return 2 * x


@app.function()
@homeport.concurrent(max_inputs=10)
def count(n):
    yield from range(n)


@app.function()
def fails():
    raise ValueError("no")


@app.function()
@homeport.fastapi_endpoint()
def web():
    return {"hello": "world"}


@app.function(min_containers=2, max_containers=2)
def far(_number):
    """Do everything that a container does with the server."""
    done = {"me": ME}
    done["call"] = double.remote(21)
    done["large"] = len(double.remote("x" * 3_000_000))
    done["map"] = list(double.map(range(20)))
    done["spawned"] = [call.get() for call in [double.spawn(x) for x in range(3)]]
    done["stream"] = list(count.remote_gen(3))
    try:
        fails.remote()
    except ValueError as error:
        done["error"] = str(error)
    state[ME] = {"seen": True}
    done["dict"] = state[ME]
    jobs.put(ME, partition=ME)
    done["queue"] = jobs.get(partition=ME)
    with urllib.request.urlopen(web.get_web_url(), timeout=60) as answer:
        done["url"] = json.load(answer)
    return done


@app.function(min_containers=2, max_containers=2)
@homeport.concurrent(max_inputs=4)
def steal(container):
    """Claim an attempt for a container, this one or another; return the server's status for it."""
    from homeport.contract import frames
    from homeport.sdk import context

    report = f"call=fc-{'0' * 32}&place=0&attempt=0&container={container}"
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(context.reach().socket)
    connection = http.client.HTTPConnection("calls")
    connection.sock = unix
    fields = {"X-Homeport-Key": context.reach().key, "X-Homeport-Node": "here"}
    connection.request("POST", "/v1/spawned/reports", frames.pack([report.encode(), b""]), fields)
    answer = connection.getresponse()
    return ME, json.loads(answer.read())["statuses"][0]


@app.function(min_containers=2, max_containers=2)
def slow(seconds):
    print("slow begins")
    time.sleep(seconds)
    return ME


@app.function(min_containers=2, max_containers=2)
def asks(seconds):
    return ME, slow.remote(seconds), slow.spawn(0).get()
'''


@pytest.fixture
def cluster(tmp_path):
    with machines.cluster(tmp_path / "cluster") as made:
        yield made


def begun(cluster, tmp_path, lines: str) -> subprocess.Popen[str]:
    """Start a script on the first machine."""
    script = tmp_path / "calls.py"
    script.write_text(f"import homeport, json\n\n{lines}\n")
    first = cluster.first
    argv = first.machine.words(sys.executable, script)
    return subprocess.Popen(argv, env=first.environ, stdout=subprocess.PIPE, text=True)


def called(cluster, tmp_path, lines: str) -> list:
    """Return what a script on the first machine prints as JSON."""
    return said(begun(cluster, tmp_path, lines))


def said(script: subprocess.Popen[str]) -> list:
    output, _ = script.communicate(timeout=PATIENCE_S)
    return json.loads(output)


def test_a_function_elsewhere_does_what_it_does_here(cluster, tmp_path):
    cluster.join("b")
    script = tmp_path / "far.py"
    script.write_text(APP)
    first = cluster.first
    first.run("deploy", script)
    wait_for(lambda: len(first.containers()) >= 10, "the first containers")
    of_b = {each["id"] for each in first.containers() if each["node"] == "b"}

    lines = 'print(json.dumps(list(homeport.Function.from_name("far", "far").map(range(8)))))'
    done = called(cluster, tmp_path, lines)
    wanted = {
        "call": 42,
        "large": 6_000_000,
        "map": list(range(0, 40, 2)),
        "spawned": [0, 2, 4],
        "stream": [0, 1, 2],
        "error": "no",
        "dict": {"seen": True},
        "url": {"hello": "world"},
    }
    for each in done:
        assert each.pop("queue") == each["me"]
    assert {True, False} == {each.pop("me") in of_b for each in done}
    assert [wanted] * 8 == done

    # A container claims for itself, and for none of another machine.
    ids = [each["id"] for each in first.containers() if each["function"] == "steal"]
    lines = (
        'steal = homeport.Function.from_name("far", "steal")\n'
        f"print(json.dumps([[of, *steal.remote(of)] for of in {ids} for _ in range(10)]))"
    )
    for of, by, status in called(cluster, tmp_path, lines):
        same_machine = (of in of_b) == (by in of_b)
        assert (409 if same_machine else 403) == status, (of, by)

    # The control plane is killed while containers elsewhere wait for calls: nothing is lost.
    lines = 'print(json.dumps(list(homeport.Function.from_name("far", "asks").map([4] * 4))))'
    asking = begun(cluster, tmp_path, lines)
    first.log("far", "slow begins")
    cluster.kill_control_plane()
    first.run("up")
    cluster.until("b", READY)
    answers = said(asking)
    assert 4 == len(answers)
    assert any(by in of_b for by, _, _ in answers)
