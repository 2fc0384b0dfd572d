"""`homeport up`, `down` and `status` as a user types them."""

import json
import time

import pytest

from homeport.cli import output
from homeport.contract.api.alerts import Finding, FindingList
from homeport.contract.api.apps import AppState, CanaryState, CanaryStatus
from tests.cli.statuses import app_status, endpoint_status, function_status, status


async def shown(answered, *findings: Finding, **server: object):
    """Run `homeport status` beside a server with this status; return what it printed."""
    server.setdefault("started_at", time.time() - 7300)
    told = FindingList(findings=findings)
    answers = {"GET /v1/status": status(**server), "GET /v1/findings": told}
    async with answered(answers) as user:
        return await user.run("status")


async def test_status_shows_the_server_and_a_row_for_each_url(answered):
    endpoints = (
        endpoint_status(containers=1, running=2, queued=3, served=4, errors=5, cold_starts=6),
        endpoint_status(tag="price", url="", function="price", p50_ms=7, p99_ms=8),
    )
    functions = (function_status(name="price", next_run=60.0),)
    app = app_status(endpoints=endpoints, functions=functions)
    done = await shown(answered, apps=(app,), nodes={"b": "gone", "a": "ready"}, https_port=443)

    first, second, _, *rows = done.stdout.splitlines()
    assert (
        "homeport 1.2 on 127.0.0.1:4663 and 443 (HTTPS), in the background, pid 7, for 2h" == first
    )
    assert "with other machines: `a` is ready, `b` is gone" == second
    url = "http://me--shop-web.localhost:4663"
    assert f"shop deployed web 1 2 3 4 5 6 {url}".split() == rows[0].split()
    when = output.local_time(60.0)
    assert f"shop deployed price 0 0 0 0 0 0 7 8 {when} by .remote()".split() == rows[1].split()


async def test_status_says_what_is_missing(answered):
    nothing = await shown(answered, kept=False)
    stopped = await shown(answered, apps=(app_status(state=AppState.STOPPED),))
    warned = await shown(
        answered,
        Finding(what="disk", text="it is full"),
        Finding(what="isolation", text="there is none", needed=False),
    )

    assert "for a `homeport serve`" in nothing.stdout
    assert "with other machines" not in nothing.stdout
    assert "no app is deployed: `homeport deploy script.py`" in nothing.stderr
    assert "no app serves" in stopped.stderr
    assert "warning: disk: it is full\n" in warned.stderr
    assert "isolation" not in warned.stderr


@pytest.mark.parametrize("ended_at", [None, 3.0])
async def test_status_shows_a_canary_that_runs(answered, ended_at):
    canary = CanaryStatus(
        version=2, before=1, percent=10.0, state=CanaryState.RUNNING, began_at=1.0, ends_at=2.0,
        ended_at=ended_at, reason="", endpoints=(),
    )  # fmt: skip
    done = await shown(answered, apps=(app_status(canary=canary),))

    assert (ended_at is None) == ("v2 gets 10% of the requests beside v1" in done.stdout)


async def test_up_says_that_it_runs_already_and_what_it_cannot_serve(answered):
    broken = app_status(state=AppState.BROKEN, reason="its files are gone")
    app = app_status(endpoints=(endpoint_status(),))
    told = status(apps=(broken, app), trouble="the disk is full", kept=False)
    async with answered({"GET /v1/status": told, "POST /v1/keep": {}}) as user:
        done = await user.run("up")

    assert done.stdout.startswith("homeport is up: 127.0.0.1:4663 (pid 7)\n  web  http://")
    assert "`shop` cannot be served: its files are gone; it is tried again" in done.stderr
    assert "the database cannot be read: the disk is full" in done.stderr
    assert "POST /v1/keep" in user.asked, "it outlives the session for which it was started"


async def test_up_keeps_the_settings_of_a_server_that_runs(answered):
    told = status(settings={"http_port": 4663, "host": "127.0.0.1"})
    async with answered({"GET /v1/status": told}) as user:
        same = await user.run("up", "--http-port", "4663")
        any_port = await user.run("up", "--http-port", "0")
        other = await user.run("up", "--http-port", "8080")

    assert "" == same.stderr == any_port.stderr
    assert (
        "the server that runs has another http-port, 4663, and keeps it: 8080 is for the next"
        in (" ".join(other.stderr.split()))
    )


async def test_down_says_whether_a_server_ran_and_which_machines_did_not_answer(answered):
    told = status(pid=0, nodes={"a": "ready", "b": "gone"})
    async with answered({"GET /v1/status": told, "POST /v1/shutdown": {}}) as user:
        done = await user.run("down")
    none = await user.run("down")

    assert "POST /v1/shutdown" in user.asked
    assert "warning: the machine `b` did not answer" in done.stderr
    assert "`a`" not in done.stderr
    assert done.stderr.endswith("homeport is down\n")
    assert "no server was running\n" == none.stderr


async def test_commands_of_a_server_on_another_machine_are_asked_for(answered):
    """And `up` is no such command."""
    variables = {"HOMEPORT_SERVER": "http://127.0.0.1:1", "HOMEPORT_TOKEN": "ak-1.as-x"}
    async with answered({}) as user:
        unasked = await user.run("down", code=1, **variables)
        stays = await user.run("up", "--foreground", code=1, **variables)

    assert "Rerun with --yes" in unasked.stderr
    assert "unset HOMEPORT_SERVER" in stays.stderr


async def test_status_prints_json_for_programs(typed, home):
    async with typed() as user:
        told = json.loads((await user.run("status", "--json")).stdout)

    assert (str(home), []) == (told["home"], told["apps"])
