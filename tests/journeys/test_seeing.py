"""What users can observe: logs by request, numbers by endpoint, metrics."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.waiting import wait_for

APP = """
    import asyncio, sys, threading
    import modal
    from flask import Flask, request

    app = modal.App("seen")
    web = Flask("x")
    meeting = threading.Barrier(2, timeout=30)
    both_inside = asyncio.Barrier(2)

    @web.get("/")
    def index():
        print("begin", request.args["n"], end=" ")
        meeting.wait()
        print("end", request.args["n"])
        return "ok"

    @app.function()
    @modal.concurrent(max_inputs=4)
    @modal.wsgi_app()
    def flask():
        return web

    @app.function()
    @modal.concurrent(max_inputs=4)
    @modal.fastapi_endpoint()
    async def both(n: str):
        print("begin", n, end=" ")
        await asyncio.wait_for(both_inside.wait(), 30)
        print("end", n, file=sys.stdout)
        if n == "2":
            raise ValueError("of the second")
        return "ok"
"""


def test_each_log_line_has_the_id_of_its_request_also_when_they_run_at_once(terminal, write):
    urls = terminal.deploy(write(APP))
    for tag in ("flask", "both"):
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(
                    lambda n, url=urls[tag]: httpx.get(
                        url, params={"n": n}, timeout=60, trust_env=False
                    ),
                    "12",
                )
            )
        for number, answer in zip("12", answers, strict=True):
            request = answer.headers["x-request-id"]
            told = [f"begin {number} end {number}"]
            if tag == "both" and number == "2":
                told.append("of the second")
            log = terminal.log("seen", *told, only=("--request", request))
            assert f"end {'21'[int(number) - 1]}" not in log
            assert ("of the second" in log) is (tag == "both" and number == "2")
    assert "\x1e" not in terminal.run("app", "logs", "seen").stdout


NUMBERS = """
    import modal
    from fastapi import HTTPException

    app = modal.App("numbers")

    @app.function()
    @modal.concurrent(max_inputs=4)
    @modal.fastapi_endpoint()
    def ask(bad: bool = False):
        if bad:
            raise HTTPException(500, "bad")
        return "ok"
"""


def test_requests_are_counted_by_endpoint_for_commands_and_prometheus(terminal, write):
    url = terminal.deploy(write(NUMBERS))["ask"]
    for bad in (False, False, True):
        httpx.get(url, params={"bad": bad}, timeout=60, trust_env=False)

    def numbers():
        (app,) = terminal.status()["apps"]
        (endpoint,) = app["endpoints"]
        return endpoint if endpoint["served"] == 3 and endpoint["p50_ms"] is not None else None

    endpoint = wait_for(numbers, "the numbers")
    assert (1, 1, 0) == tuple(endpoint[k] for k in ("errors", "cold_starts", "failed_starts"))
    assert 0 <= endpoint["p50_ms"] <= endpoint["p99_ms"] < 60_000
    port = terminal.status()["http_port"]
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    labels = '{app="numbers",function="ask"}'
    assert f"homeport_requests_total{labels} 3" in metrics.text
    assert f"homeport_errors_total{labels} 1" in metrics.text
    assert 'homeport_containers{app="numbers",function="ask",state="ready"} 1' in metrics.text
    assert 'quantile="0.99"' in metrics.text
    from_outside = httpx.get(
        f"http://127.0.0.1:{port}/metrics",
        headers={"X-Forwarded-For": "1.2.3.4"},
        trust_env=False,
    )
    assert 404 == from_outside.status_code
    for command in (("status",), ("app", "list")):
        assert "numbers" in terminal.run(*command).stdout


WAITED = """
    import modal

    app = modal.App("waited")

    @app.function()
    @modal.fastapi_endpoint()
    def ask(n: int = 0):
        print("asked for", n)
        return double.remote(n)

    @app.function()
    def double(n):
        print("doubles", n)
        return 2 * n
"""


def test_every_request_and_call_is_recorded_with_its_parts(terminal, write):
    url = terminal.deploy(write(WAITED))["ask"]
    cold = httpx.get(f"{url}/?n=3", timeout=60, trust_env=False)
    request = cold.headers["x-request-id"]
    missing = httpx.get(f"{url}/none", timeout=60, trust_env=False).headers["x-request-id"]

    def recorded():
        found = json.loads(terminal.run("request", "list", "waited", "--json").stdout)
        return found if {missing, request} <= {each["id"] for each in found} else None

    found = wait_for(recorded, "the records")
    assert {("ask", "visit", "/"), ("ask", "visit", "/none"), ("double", "call", "/")} == {
        (each["tag"], each["kind"], each["path"]) for each in found
    }
    assert {1} == {each["version"] for each in found}
    (first,) = (each for each in found if each["id"] == request)
    assert sum(first["parts_ms"].values()) == first["total_ms"]
    shown = terminal.run("request", "show", request).stdout
    assert "GET / -> 200 OK" in shown
    assert "asked for 3" in shown
    assert "doubles" not in shown  # it was printed for the call
    if first["cold"]:
        assert "parked" in shown
        assert "imported" in shown
    ended = [each["status"] for each in found if each["id"] == missing]
    assert [404] == ended
    assert "no request" in terminal.run("request", "list", "--status", "5xx").stderr
    following = terminal.start("request", "list", "waited", "--follow", "--path", "/n", "-n", "1")
    following.wait_for("/none")
    httpx.get(f"{url}/next", timeout=60, trust_env=False)
    following.wait_for("/next")
    asked = terminal.run("request", "show", "nobody", check=False)
    assert 1 == asked.returncode
    assert "no request with the id `nobody` is kept" in asked.stderr


SEVERAL = """
    import modal

    app = modal.App("several")

    @app.function()
    @modal.fastapi_endpoint()
    def plain():
        return 1

    @app.cls(min_containers=1)
    class Shared:
        @modal.fastapi_endpoint()
        def one(self):
            return 1

        @modal.fastapi_endpoint()
        def other(self):
            return 2

    @app.function(min_containers=2)
    @modal.fastapi_endpoint()
    def two():
        return 1
"""


def test_each_functions_containers_are_counted_for_themselves(terminal, write):
    from tests.waiting import wait_for

    terminal.deploy(write(SEVERAL))
    for container in terminal.json("container", "list"):
        if container["function"] == "plain":
            terminal.run("container", "stop", "--yes", container["id"])

    def counts():
        (app,) = terminal.status()["apps"]
        return {endpoint["tag"]: endpoint["containers"] for endpoint in app["endpoints"]}

    wanted = {"plain": 0, "Shared.one": 1, "Shared.other": 1, "two": 2}
    wait_for(lambda: counts() == wanted, "the containers")
    shown = [line.split() for line in terminal.run("status").stdout.splitlines()]
    assert wanted == {row[2]: int(row[3]) for row in shown if row[:1] == ["several"]}
