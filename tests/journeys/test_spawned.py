"""Spawned calls: they go on without their caller, and no death of a process loses or doubles one."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

SCRIPT = """
    import os, time
    import modal
    from fastapi import Request

    app = modal.App("jobs")
    ran = modal.Dict.from_name("ran", create_if_missing=True)
    gate = modal.Dict.from_name("gate", create_if_missing=True)
    seen = modal.Queue.from_name("seen", create_if_missing=True)

    def until_open():
        while not gate.get("open"):
            time.sleep(0.05)

    @app.function()
    def work(name, wait=False):
        seen.put((name, modal.current_function_call_id()))
        if wait:
            until_open()
        return {"done": name}

    @app.function(retries=1, max_containers=1)
    def patient(name):
        until_open()
        return name

    @app.function(retries=2)
    def flaky(name):
        tries = ran.get(name, 0) + 1
        ran[name] = tries
        if tries < 3:
            raise ValueError(f"try {tries}")
        return tries

    @app.function()
    def dies():
        os._exit(3)

    @app.function(timeout=1)
    async def slow():
        import asyncio
        await asyncio.sleep(60)

    @app.function()
    def large(size):
        return bytes(size)

    @app.function()
    def parent():
        return work.spawn("child").object_id

    @app.function()
    @modal.fastapi_endpoint(method="POST")
    async def start(name: str):
        return (await work.spawn.aio(name)).object_id

    @app.function()
    @modal.fastapi_endpoint()
    async def result(call: str):
        try:
            return await modal.FunctionCall.from_id(call).get.aio(timeout=0)
        except TimeoutError:
            return "not yet"
"""

OUTSIDE = """
import json, sys
import homeport as modal
app = lambda name: modal.Function.from_name("jobs", name)
seen = modal.Queue.from_name("seen", create_if_missing=True)
gate = modal.Dict.from_name("gate", create_if_missing=True)
{}
"""


@pytest.fixture
def deployed(terminal, write):
    return terminal.deploy(write(SCRIPT))


@pytest.fixture
def outside(terminal):
    """Run code as a script on this machine; return what it prints."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", OUTSIDE.format(code)],
            env=terminal.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()

    return run


def test_a_web_function_spawns_calls_and_returns_their_results(deployed, visitor, terminal):
    call = visitor.post(deployed["start"], params={"name": "a"}).json()
    answer = "not yet"
    deadline = time.monotonic() + 120
    while answer == "not yet" and time.monotonic() < deadline:
        answer = visitor.get(deployed["result"], params={"call": call}).json()
    listed = terminal.json("call", "list", "jobs")
    shown = terminal.json("call", "show", call)

    assert {"done": "a"} == answer
    assert [(call, "work", "done")] == [(c["id"], c["function"], c["state"]) for c in listed]
    assert "done" == shown["state"]


def test_a_spawned_call_has_an_outcome_of_each_kind(deployed, outside):
    told = outside(
        """
made = app("work").spawn("x")
print(made.get())
print(modal.FunctionCall.from_id(made.object_id).get(timeout=0))
print(app("flaky").spawn("f").get())
for name in ("dies", "slow"):
    try:
        app(name).spawn().get()
    except Exception as error:
        print(type(error).__name__)
print(len(app("large").spawn(3_000_000).get()))
try:
    app("large").spawn(130 * 2**20).get()
except modal.exception.SerializationError as error:
    print(error)
calls = app("flaky").experimental_spawn_map(["p", "q"])
print(list(calls.iter()), calls.num_inputs())
print(modal.FunctionCall.gather(app("work").spawn("g"), app("work").spawn("h")))
above = app("parent").spawn()
child = above.get()
modal.FunctionCall.from_id(child).get()
print([each.function_call_id == child for each in above.get_call_graph()[0].children])
try:
    modal.FunctionCall.from_id("fc-" + "f" * 40).get(timeout=0)
except modal.exception.NotFoundError as error:
    print("unknown")
try:
    app("nobody").spawn()
except modal.exception.NotFoundError as error:
    print("no function")
"""
    )

    assert [
        "{'done': 'x'}",
        "{'done': 'x'}",
        "3",
        "InternalFailure",
        "FunctionTimeoutError",
        "3000000",
        "the server does not keep the result of `large`: it is too large",
        "[3, 3] 2",
        "[{'done': 'g'}, {'done': 'h'}]",
        "[True]",
        "unknown",
        "no function",
    ] == told.splitlines()


@pytest.mark.parametrize("killed", ["control plane", "HAProxy", "both"])
def test_a_kill_loses_and_doubles_nothing(deployed, outside, terminal, killed):
    call = outside(
        """
call = app("work").spawn("long", wait=True)
seen.get(timeout=120)
print(call.object_id)
"""
    )
    status = terminal.json("status")
    if killed != "control plane":
        os.kill(status["ingress_pid"], signal.SIGKILL)
    if killed != "HAProxy":
        server = psutil.Process(status["pid"])
        server.kill()
        psutil.wait_procs([server], timeout=60)
        terminal.run("up")
    told = outside(
        f"""
call = modal.FunctionCall.from_id({call!r})
gate["open"] = True
print(call.get(timeout=120))
print(seen.len())
"""
    )

    assert ["{'done': 'long'}", "0"] == told.splitlines()  # it was seen once, and taken above


def test_a_call_that_waits_survives_a_restart(deployed, outside, terminal):
    """One runs and two wait for their turn when the server goes away, with the container."""
    calls = outside(
        """
calls = [app("patient").spawn(f"w{n}").object_id for n in range(3)]
print(json.dumps(calls))
"""
    )
    terminal.run("down")
    terminal.run("up")
    told = outside(
        f"""
gate["open"] = True
print([modal.FunctionCall.from_id(c).get(timeout=120) for c in {calls}])
"""
    )

    assert "['w0', 'w1', 'w2']" == told


def test_a_cancelled_call_ends(deployed, outside, terminal):
    call = outside(
        """
call = app("work").spawn("c", wait=True)
seen.get(timeout=120)
print(call.object_id)
"""
    )
    terminal.run("call", "cancel", call)
    told = outside(
        f"""
try:
    modal.FunctionCall.from_id({call!r}).get()
except modal.exception.RemoteError as error:
    print(error)
gate["open"] = True
print(app("work").spawn("next", wait=False).get(timeout=120))
"""
    )

    assert ["the call was cancelled", "{'done': 'next'}"] == told.splitlines()
