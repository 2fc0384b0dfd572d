"""Scheduled functions, variants and settings of the autoscaler, over a kill of the server: one server for all."""

import json
import subprocess
import sys

import psutil

from tests.waiting import wait_for

SCRIPT = """
    import os, time
    import modal

    app = modal.App("clock")
    ticks = modal.Queue.from_name("ticks", create_if_missing=True)
    gate = modal.Dict.from_name("gate", create_if_missing=True)
    ran = modal.Queue.from_name("ran", create_if_missing=True)

    @app.function(schedule=modal.Period(seconds=1))
    def tick():
        ticks.put(modal.current_function_call_id())

    @app.function(schedule=modal.Cron("0 9 * * 1-5", timezone="Europe/Paris"))
    def morning():
        pass

    @app.function(secrets=[modal.Secret.from_dict({"COLOUR": "grey", "OWN": "1"})])
    def colour(wait=False):
        if wait:
            ran.put(1)
            while not gate.get("open"):
                time.sleep(0.05)
        return os.environ.get("COLOUR"), os.environ.get("OWN"), os.environ["MODAL_TASK_ID"]

    @app.cls()
    class Paint:
        shade: str = modal.parameter(default="light")

        @modal.method()
        def name(self, many):
            return many if isinstance(many, list) else [self.shade, os.environ.get("COLOUR")]

    @app.function()
    @modal.fastapi_endpoint()
    async def inside():
        red = colour.with_options(env={"COLOUR": "red"})
        green = await colour.with_options(env={"COLOUR": "green"}).spawn.aio()
        return [await red.remote.aio(), await green.get.aio(), await colour.remote.aio()]

    @app.local_entrypoint()
    def main():
        print("entry", colour.with_options(env={"COLOUR": "blue"}).remote()[0])
"""

OUTSIDE = """
import json
import homeport as modal
colour = modal.Function.from_name("clock", "colour")
Paint = modal.Cls.from_name("clock", "Paint")
gate = modal.Dict.from_name("gate", create_if_missing=True)
ran = modal.Queue.from_name("ran", create_if_missing=True)
ticks = modal.Queue.from_name("ticks", create_if_missing=True)
"""


def outside(terminal, code: str):
    """Run a script on the user's machine; return what it prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE + code],
        env=terminal.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def next_runs(terminal) -> dict[str, float | None]:
    (app,) = (app for app in terminal.json("app", "list") if app["name"] == "clock")
    return {function["name"]: function["next_run"] for function in app["functions"]}


def kill(terminal) -> None:
    """Kill the control plane, and start another one."""
    server = psutil.Process(terminal.status()["pid"])
    server.kill()
    psutil.wait_procs([server], timeout=60)
    terminal.run("up")


def check_schedules(terminal) -> None:
    """It ticks, each time once, also over a kill."""
    two = "print(json.dumps([ticks.get(timeout=120) for _ in range(2)]))"
    before = outside(terminal, two)
    runs = next_runs(terminal)
    kill(terminal)
    after = outside(terminal, two)
    ids = [*before, *after]

    assert 4 == len(set(ids))
    due = [int(each[3:19], 16) for each in ids]
    assert due == sorted(due)
    assert {0} == {(later - due[0]) % 10**9 for later in due}  # the period's phase is the same
    assert runs["colour"] is None
    assert runs["tick"] is not None
    assert runs["morning"] == next_runs(terminal)["morning"] > runs["tick"] - 1


def check_variants(terminal, visitor, urls) -> None:
    red, green, plain = visitor.get(urls["inside"]).json()
    assert [["red", None], ["green", None], ["grey", "1"]] == [red[:2], green[:2], plain[:2]]
    assert 3 == len({red[2], green[2], plain[2]})
    told = outside(
        terminal,
        """
red = colour.with_options(env={"COLOUR": "red"})
dark = Paint.with_options(env={"COLOUR": "red"}).with_batching(max_batch_size=2, wait_ms=50)
print(json.dumps([red.remote(), list(dark(shade="dark").name.map(["a", "b"])), Paint().name.remote(0)]))
""",
    )
    assert [red, ["a", "b"], ["light", None]] == told  # equal options are the same container
    functions = {f["name"] for app in terminal.status()["apps"] for f in app["functions"]}
    assert 3 <= len([name for name in functions if name.startswith("colour+")]) + 1
    done = terminal.run("run", terminal.script)
    assert "entry blue" in done.stdout


def check_what_cannot_be(terminal) -> None:
    told = outside(
        terminal,
        """
def why(**options):
    try:
        colour.with_options(**options).remote()
    except modal.exception.Error as error:
        return str(error)
print(json.dumps([why(gpu="H100"), why(secrets=[modal.Secret.from_name("nobody")])]))
""",
    )
    assert "H100" in told[0]
    assert "there is no secret `nobody`" in told[1]


def check_over_a_kill(terminal) -> None:
    """A spawned call of a variant that runs, and settings of the autoscaler."""
    call = outside(
        terminal,
        """
call = colour.with_options(env={"COLOUR": "violet"}, timeout=200).spawn(wait=True)
ran.get(timeout=120)
colour.update_autoscaler(min_containers=2, max_containers=3)
print(json.dumps(call.object_id))
""",
    )
    kill(terminal)
    told = outside(
        terminal,
        f"""
gate["open"] = True
value = modal.FunctionCall.from_id({call!r}).get(timeout=120)
print(json.dumps([value[:2], ran.len(), colour.update_autoscaler().__dict__]))
""",
    )
    assert [["violet", None], 0] == told[:2]
    assert (2, 3) == (told[2]["min_containers"], told[2]["max_containers"])
    wait_for(
        lambda: 2 <= len([c for c in terminal.containers() if c["function"] == "colour"]),
        "the containers that update_autoscaler wants",
    )


def test_scheduled_functions_run_variants_are_called_and_an_autoscaler_is_set(
    terminal, visitor, write
):
    terminal.script = write(SCRIPT)
    terminal.run("up")
    urls = terminal.deploy(terminal.script)
    check_schedules(terminal)
    check_variants(terminal, visitor, urls)
    check_what_cannot_be(terminal)
    check_over_a_kill(terminal)
    terminal.run("app", "stop", "clock", "--yes")
    (app,) = (app for app in terminal.json("app", "list") if app["name"] == "clock")
    assert ("stopped", []) == (app["state"], app["functions"])
