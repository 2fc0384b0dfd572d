"""Limits of requests: `timeout`, single-use containers, bodies without end."""

from concurrent.futures import ThreadPoolExecutor

import httpx

SLOW = """
    import asyncio, time
    import modal
    from flask import Flask

    app = modal.App("slow")

    @app.function(timeout=2, startup_timeout=60)
    @modal.concurrent(max_inputs=5)
    @modal.fastapi_endpoint()
    async def cooperative(seconds: float = 0):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            print("was cancelled")
            raise
        return "in time"

    @app.function(timeout=2, startup_timeout=60)
    @modal.concurrent(max_inputs=2)
    @modal.fastapi_endpoint()
    def stubborn(seconds: float = 0):
        time.sleep(seconds)
        return "in time"

    @app.function(timeout=2, startup_timeout=60)
    @modal.concurrent(max_inputs=2)
    @modal.wsgi_app()
    def flask():
        web = Flask("x")

        @web.get("/")
        def index():
            from flask import request
            time.sleep(float(request.args.get("seconds", 0)))
            return "in time"

        return web
"""


def test_a_request_over_its_timeout_is_504_and_its_neighbours_continue(terminal, write):
    urls = terminal.deploy(write(SLOW))

    def visit(url, seconds):
        return httpx.get(url, params={"seconds": seconds}, timeout=60, trust_env=False)

    for tag in ("cooperative", "stubborn", "flask"):
        neighbours = []
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(visit, urls[tag], 6)
            while not late.done():
                neighbours.append(visit(urls[tag], 0).status_code)
        assert 504 == late.result().status_code
        assert "homeport: the function took longer than 2 s" == late.result().text.strip()
        assert {200} == set(neighbours)
        assert 200 == visit(urls[tag], 0).status_code
    late = "a request took longer than its timeout of 2 s"
    assert 3 == terminal.log("slow", late, late, late, "was cancelled").count(late)


def test_a_single_use_container_answers_one_request(terminal, write):
    urls = terminal.deploy(
        write(
            """
            import os
            import modal

            app = modal.App("once")
            options = dict(single_use_containers=True, max_containers=3)

            @app.function(**options)
            @modal.fastapi_endpoint()
            async def at_once():
                return os.environ["MODAL_TASK_ID"]

            @app.function(**options)
            @modal.fastapi_endpoint()
            def in_a_thread():
                return os.environ["MODAL_TASK_ID"]

            @app.function(**options)
            @modal.wsgi_app()
            def wsgi():
                def app(environ, start_response):
                    start_response("200 OK", [("Content-Type", "text/plain")])
                    return [os.environ["MODAL_TASK_ID"].encode()]

                return app
            """
        )
    )

    for url in urls.values():
        # A client keeps its connections, as most visitors do.
        with httpx.Client(timeout=60, trust_env=False) as kept, ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _number: kept.get(url), range(12)))

        assert {200} == {answer.status_code for answer in answers}
        assert 12 == len({answer.text for answer in answers})


def test_a_request_for_a_single_use_container_waits_until_the_container_before_has_ended(
    terminal, write
):
    url = terminal.deploy(
        write(
            """
            import os, time
            import modal

            app = modal.App("once")

            @app.cls(single_use_containers=True, max_containers=1)
            class Slow:
                @modal.exit()
                def leave(self):
                    time.sleep(6)  # longer than a request looks for a container by itself

                @modal.fastapi_endpoint()
                def web(self):
                    return os.environ["MODAL_TASK_ID"]
            """
        )
    )["Slow.web"]

    with httpx.Client(timeout=60, trust_env=False) as kept, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _number: kept.get(url), range(2)))

    assert [200, 200] == [answer.status_code for answer in answers]
    assert 2 == len({answer.text for answer in answers})
