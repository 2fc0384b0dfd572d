"""`homeport app …` as a user types it."""

import json
import time

import pytest

from homeport.cli import output
from homeport.contract.api.apps import AppList, AppState, CanaryState, CanaryStatus
from homeport.contract.container import LogLine
from homeport.state.coldstarts import ColdStart
from tests.cli.statuses import app_status, endpoint_status, function_status
from tests.control.plane import function, manifest


def line(text: str, **changes) -> LogLine:
    told = {"at": 2.0, "app": "shop", "function": "web", "container": "ta-1", "text": text}
    return LogLine(**{**told, **changes})


async def test_an_app_is_listed_stopped_and_rolled_back(typed):
    async with typed() as user:
        assert (
            "no app is deployed: `homeport deploy script.py`"
            in (await user.run("app", "list")).stderr
        )
        await user.plane.deploy(manifest(function("web")))
        await user.plane.deploy(manifest(function("web", timeout_s=9.0)))
        (told,) = json.loads((await user.run("app", "list", "--json")).stdout)
        table = (await user.run("app", "list")).stdout
        back = await user.run("app", "rollback", "shop")
        there = json.loads((await user.run("app", "rollback", "shop", "v2", "--json")).stdout)
        missing = await user.refused("app", "rollback", "shop", "v9")
        unasked = await user.refused("app", "stop", "shop")
        stopped = await user.run("app", "stop", "shop", "--yes")
        again = await user.refused("app", "stop", "shop")
        after = (await user.run("app", "list")).stdout

    assert ("shop", "deployed", 2) == (told["name"], told["state"], told["version"])
    assert ["shop", "deployed", "v2", "1"] == table.splitlines()[1].split()[:4]
    assert "✓ Deployment rollback successful!" in back.stderr
    assert back.stdout.startswith("shop v3\n  web  http://")
    assert 4 == there["version"]
    assert "v9" in missing
    assert "Rerun with --yes" in unasked
    assert "✓ `shop` is stopped; 1 container ended" in stopped.stderr
    assert "App is already stopped" in again, "no question is asked"
    assert ["shop", "stopped"] == after.splitlines()[1].split()[:2]


@pytest.mark.parametrize("words", [["rollback"], ["diff"], ["diff", "v1"]])
@pytest.mark.parametrize("version", ["2", "v0", "v1x", "latest"])
async def test_a_version_is_written_with_its_v(typed, words, version):
    async with typed() as user:
        said = await user.refused("app", words[0], "shop", *words[1:], version, code=2)

    assert f"Invalid version specifier: {version} (write it as v3)" in " ".join(
        said.replace("│", " ").split()
    )


async def test_a_list_shows_the_slowest_endpoint_the_next_run_and_the_sum_of_functions(answered):
    running = CanaryStatus(
        version=3, before=2, percent=10.0, state=CanaryState.RUNNING, began_at=1.0, ends_at=2.0,
        ended_at=None, reason="", endpoints=(),
    )  # fmt: skip
    app = app_status(
        version=2,
        canary=running,
        expires_at=70.0,
        endpoints=(
            endpoint_status(p50_ms=3, p99_ms=90),
            endpoint_status(p50_ms=7, p99_ms=20),
            endpoint_status(),
        ),
        functions=(
            function_status(running=1, queued=2, cold_starts=3, errors=4, next_run=60.0),
            function_status(running=10, queued=20, cold_starts=30, errors=40, next_run=50.0),
            function_status(),
        ),
    )
    served = app_status(name="draft", state=AppState.SERVING, version=0)
    async with answered({"GET /v1/apps": AppList(apps=(app, served))}) as user:
        rows = (await user.run("app", "list")).stdout.splitlines()[1:]

    times = " ".join(output.local_time(at) for at in (50.0, 1.0, 70.0))
    assert f"shop deployed v2 v3 10% 0 11 22 33 44 7 90 {times}".split() == rows[0].split()
    assert f"draft serving 0 0 0 0 0 {output.local_time(1.0)}".split() == rows[1].split()


async def test_lines_of_a_log_are_chosen(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        logs = user.server.logs
        logs.write(line("old", at=time.time() - 7200))
        logs.write(line("mine", at=time.time(), request="1b0c"))
        logs.write(line("other\x1b[2J", at=time.time(), function="page", container="ta-2"))
        shown = {
            words: (await user.run("app", "logs", "shop", *words)).stdout.splitlines()
            for words in (
                (),
                ("-n", "1"),
                ("--since", "1h"),
                ("--function", "web"),
                ("--container", "ta-2"),
                ("--request", "in-1b0c"),
                ("--request", "fc-1b0c"),
                ("--timestamps", "-n", "1"),
            )
        }
        wrong = await user.refused("app", "logs", "shop", "--since", "yesterday")
        none = await user.refused("app", "logs", "none")

    mine, other = "web ta-1 mine", shown["-n", "1"][0]
    assert other.startswith("page ta-2 other")
    assert "\x1b" not in other
    assert ["web ta-1 old", mine, other] == shown[()]
    assert [mine, other] == shown["--since", "1h"]
    assert ["web ta-1 old", mine] == shown["--function", "web"]
    assert [other] == shown["--container", "ta-2"]
    assert [mine] == shown["--request", "in-1b0c"] == shown["--request", "fc-1b0c"]
    (stamped,) = shown["--timestamps", "-n", "1"]
    assert stamped.endswith(other)
    assert stamped.startswith("20")
    assert "`yesterday` is not a time" in wrong
    assert "No App with name 'none' found" in none


async def test_cold_starts_are_shown_or_that_there_were_none(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        none = await user.run("app", "cold-starts", "shop")
        none_of = await user.run("app", "cold-starts", "shop", "--function", "web")
        for number in range(3):
            start = ColdStart(
                at=float(number), app="shop", function="web", container=f"ta-{number}",
                revision="rv-1", origin="forked", timings_ms={"forked": 1.25, "imported": 2.0},
            )  # fmt: skip
            user.server.cold_starts.add(start)
        words = ["app", "cold-starts", "shop", "-n", "2"]
        told = json.loads((await user.run(*words, "--json")).stdout)
        table = (await user.run(*words)).stdout

    assert "no container of `shop` has started yet" in none.stderr
    assert "no container of `web` of `shop` has started yet" in none_of.stderr
    assert ["ta-1", "ta-2"] == [start["container"] for start in told]
    assert "ta-2" in table
    assert "ta-0" not in table


async def test_the_history_of_an_app_is_shown(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        await user.plane.deploy(manifest(function("web", timeout_s=9.0)))
        history = json.loads((await user.run("app", "history", "shop", "--json")).stdout)
        (change,) = json.loads((await user.run("app", "diff", "shop", "--json")).stdout)["settings"]
        same = json.loads((await user.run("app", "diff", "shop", "v2", "v2", "--json")).stdout)
        stats = json.loads((await user.run("app", "stats", "shop.web", "--json")).stdout)
        wrong = await user.refused("app", "stats", "--since", "x")

    assert [2, 1] == [version["version"] for version in history]
    assert "web" in json.dumps(change)
    assert [] == same["settings"]
    assert [] == stats["endpoints"]
    assert "`x` is not a time" in wrong
