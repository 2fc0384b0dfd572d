"""What one can see of it: logs by request, numbers by endpoint, metrics."""

from concurrent.futures import ThreadPoolExecutor

import httpx

APP = """
    import asyncio, sys, threading
    import modal
    from flask import Flask, request

    app = modal.App("seen")
    web = Flask("x")
    meeting = threading.Barrier(2, timeout=30)

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
        await asyncio.sleep(0.2)
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
            log = terminal.run("app", "logs", "seen", "--request", request).stdout
            assert f"begin {number} end {number}" in log
            assert f"end {'21'[int(number) - 1]}" not in log
            assert ("of the second" in log) is (tag == "both" and number == "2")
    assert "\x1e" not in terminal.run("app", "logs", "seen").stdout
