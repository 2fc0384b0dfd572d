"""Each kind of web function, as the ingress would reach it: on the container's own socket."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ports import free_port


def test_a_fastapi_endpoint_answers_at_the_root_alone(start):
    runner = start(
        """
        import modal
        app = modal.App("a")

        @app.function()
        @modal.fastapi_endpoint()
        def hello(name: str = "World"):
            return {"hello": name, "input": modal.current_input_id()}
        """
    ).ready()
    answer = runner.client.get("/", params={"name": "Ada"}, headers={"X-Request-Id": "7"})

    assert {"hello": "Ada", "input": "in-7"} == answer.json()
    assert 404 == runner.client.get("/docs").status_code
    assert 405 == runner.client.post("/").status_code
    assert 405 == runner.client.head("/").status_code
    assert 0 == runner.terminate()


def test_any_origin_may_read_the_answer(start):
    runner = start(
        """
        import modal
        app = modal.App("a")

        @app.function()
        @modal.fastapi_endpoint()
        async def hello():
            return 1
        """
    ).ready()
    headers = {"Origin": "http://x.example", "Access-Control-Request-Method": "PUT"}
    preflight = runner.client.options("/", headers=headers)

    assert (200, "OK") == (preflight.status_code, preflight.text)
    assert "http://x.example" == preflight.headers["access-control-allow-origin"]


def test_a_raising_handler_is_a_500_and_the_log_has_the_users_frames_alone(start):
    runner = start(
        """
        import modal
        app = modal.App("a")

        @app.function()
        @modal.fastapi_endpoint()
        async def hello():
            return 1 / 0
        """
    ).ready()
    answer = runner.client.get("/")

    assert (500, "Internal Server Error") == (answer.status_code, answer.text)
    assert "script.py" in runner.wait_for("ZeroDivisionError")
    assert "site-packages" not in runner.output
    assert "homeport" not in runner.output


LIFESPAN = """
    import modal
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    app = modal.App("a")

    @asynccontextmanager
    async def lifespan(_app):
        print("starts")
        yield {"n": 1, "seen": []}
        print("ends")

    async def state(request):
        request.state.seen.append(request.state.n)
        request.state.n = 99
        return JSONResponse(request.state.seen)

    @app.function()
    @modal.asgi_app()
    def web():
        return Starlette(routes=[Route("/", state)], lifespan=lifespan)
"""


def test_an_asgi_app_has_its_lifespan_and_requests_cannot_change_its_state(start):
    runner = start(LIFESPAN, web={"web": "asgi_app"}).ready()
    runner.client.get("/")

    assert [1, 1] == runner.client.get("/").json()
    assert 0 == runner.terminate()
    assert ["starts", "ends"] == runner.output.split()


def test_a_failing_lifespan_fails_the_start(start):
    runner = start(LIFESPAN.replace('print("starts")', "1 / 0"), web={"web": "asgi_app"})
    event = runner.event()

    assert ("failed", "lifespan") == (event.kind, event.phase)
    assert "division by zero" in event.reason
    assert 1 == runner.process.wait(30)


def test_an_app_that_ignores_lifespan_is_served(start):
    runner = start(
        """
        import modal
        app = modal.App("a")

        async def plain(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"plain"})

        @app.function()
        @modal.asgi_app()
        def web():
            return plain
        """,
        web={"web": "asgi_app"},
    ).ready()

    assert "plain" == runner.client.get("/").text
    assert 0 == runner.terminate()
    assert "" == runner.output


@pytest.mark.parametrize(
    ("returned", "kind", "reason"),
    [
        ("None", "asgi_app", "`web` returned None (is a `return` missing?)"),
        ("42", "wsgi_app", "`web` returned a int, which is not a WSGI app"),
        ("flask", "asgi_app", "`web` returned a Flask, which is for `@modal.wsgi_app()`"),
        ("fast", "wsgi_app", "`web` returned a FastAPI, which is for `@modal.asgi_app()`"),
    ],
)
def test_a_factory_that_returns_something_else_says_so(start, returned, kind, reason):
    runner = start(
        f"""
        import modal
        from fastapi import FastAPI
        from flask import Flask
        app = modal.App("a")
        flask, fast = Flask("x"), FastAPI()

        @app.function()
        @modal.{kind}()
        def web():
            return {returned}
        """,
        web={"web": kind},
    )

    assert reason in runner.event().reason
    assert "" == runner.output


def test_a_wsgi_app_sees_the_visitor_and_streams(start):
    runner = start(
        """
        import modal
        app = modal.App("a")

        def plain(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            keys = ("REMOTE_ADDR", "wsgi.url_scheme", "SERVER_NAME", "SERVER_PORT", "PATH_INFO")
            for key in keys:
                yield f"{environ[key]}\\n".encode()
            yield environ["wsgi.input"].read()
            yield f"\\n{modal.current_function_call_id()}".encode()

        @app.function()
        @modal.wsgi_app()
        def web():
            return plain
        """,
        web={"web": "wsgi_app"},
    ).ready()
    headers = {
        "X-Forwarded-For": "9.9.9.9",
        "X-Forwarded-Proto": "https",
        "Host": "x.test",
        "X-Request-Id": "7",
    }
    answer = runner.client.post("/a%20b", content=iter([b"one ", b"two"]), headers=headers)

    assert ["9.9.9.9", "https", "x.test", "443", "/a b", "one two", "fc-7"] == answer.text.split(
        "\n"
    )
    assert 0 == runner.terminate()


def test_a_raising_wsgi_app_is_a_500_and_a_torn_one_is_cut(start):
    runner = start(
        """
        import modal
        app = modal.App("a")

        def torn(start_response):
            start_response("200 OK", [])
            yield b"half"
            raise ValueError("torn")

        def plain(environ, start_response):
            if environ["PATH_INFO"] == "/torn":
                return torn(start_response)
            raise ValueError("boom")

        @app.function()
        @modal.wsgi_app()
        def web():
            return plain
        """,
        web={"web": "wsgi_app"},
    ).ready()
    answer = runner.client.get("/")
    with pytest.raises(Exception, match=r"incomplete|without"):
        runner.client.get("/torn")

    assert (500, "Internal Server Error") == (answer.status_code, answer.text)
    runner.wait_for("ValueError: boom")
    runner.wait_for("ValueError: torn")
    assert "cheroot" not in runner.output
    assert 500 == runner.client.get("/").status_code


WEB_SERVER = """
    import subprocess, sys
    import modal
    app = modal.App("a")

    @app.function()
    @modal.web_server({port})
    def web():
        subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "{host}", "{port}"])
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_web_server_is_ready_when_its_port_accepts_and_ends_with_its_container(start, host):
    import httpx

    port = free_port()
    runner = start(WEB_SERVER.format(port=port, host=host), web={"web": f"web_server:{port}"})

    runner.ready()
    assert "Directory listing" in httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text
    assert 0 == runner.terminate()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_of_somebody_else_is_never_served(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        runner = start(
            WEB_SERVER.format(port=port, host="127.0.0.1"), web={"web": f"web_server:{port}"}
        )
        event = runner.event()

    assert ("busy", f"port {port} is in use") == (event.kind, event.reason[: len(str(port)) + 15])


def test_a_server_that_never_listens_says_so_after_its_timeout(start):
    port = free_port()
    runner = start(
        WEB_SERVER.format(port=free_port(), host="127.0.0.1"),
        web={"web": f"web_server:{port}"},
        port_timeout_s=0.3,
    )
    event = runner.event()

    assert "failed" == event.kind
    assert f"Waited too long for port {port} to start accepting connections" in event.reason


SINGLE_USE = {
    "fastapi_endpoint": 'return "fastapi"',
    "wsgi_app": 'return lambda _environ, respond: (respond("200 OK", []), [b"wsgi"])[1]',
    "web_server": (
        "import subprocess, sys; "
        'subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"])'
    ),
}


@pytest.mark.parametrize("kind", SINGLE_USE)
def test_a_single_use_container_takes_one_request_and_then_nobody(start, kind):
    port = free_port()
    factory = SINGLE_USE[kind].format(port=port)
    where = f"{kind}:{port}" if kind == "web_server" else kind
    runner = start(
        f"""
        import modal
        app = modal.App("a")

        @app.function(single_use_containers=True)
        @modal.{kind}({port if kind == "web_server" else ""})
        def hello():
            {factory}
        """,
        web={"hello": where},
        single_use=True,
    ).ready()
    answer = runner.client.get("/", headers={"Connection": "close"})
    with socket.socket(socket.AF_UNIX) as door, pytest.raises(ConnectionRefusedError):
        door.connect(runner.door)

    assert 200 == answer.status_code
    assert kind == "web_server" or "close" == answer.headers["connection"]
    assert 0 == runner.process.wait(60)
    # Its slot was never free again, so no request was sent to it while it ended.
    assert [1] == [event.held for event in runner.events() if event.kind == "held"]


@pytest.mark.parametrize("kind", ["fastapi_endpoint", "wsgi_app"])
def test_a_used_up_container_answers_when_nobody_is_sent_to_it_any_more(start, kind):
    runner = start(
        f"""
        import modal
        app = modal.App("a")

        @app.function(single_use_containers=True)
        @modal.{kind}()
        def hello():
            {SINGLE_USE[kind]}
        """,
        web={"hello": kind},
        single_use=True,
    ).ready()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(runner.client.get, "/")
        event = runner.event()
        runner.tell({"held": 1})

        assert ("held", 1) == (event.kind, event.held)
        assert 200 == answer.result().status_code


def test_wsgi_threads_begin_as_they_are_needed_and_all_run_at_once(start):
    runner = start(
        """
        import threading
        import modal
        app = modal.App("a")
        together = threading.Barrier(5)

        @app.function()
        @modal.concurrent(max_inputs=40)
        @modal.wsgi_app()
        def hello():
            def web(environ, respond):
                if environ["PATH_INFO"] == "/together":
                    together.wait(60)
                respond("200 OK", [("Content-Type", "text/plain")])
                return [str(threading.active_count()).encode()]
            return web
        """,
        web={"hello": "wsgi_app"},
        max_inputs=40,
    ).ready()
    before = int(runner.client.get("/").text)
    with ThreadPoolExecutor(5) as visitors:
        answers = list(visitors.map(lambda _: runner.client.get("/together"), range(5)))
    after = int(runner.client.get("/").text)

    assert [200] * 5 == [answer.status_code for answer in answers]
    # Four begin beside the first one, and a fifth if that has answered and is not free yet.
    assert 4 <= after - before <= 5


SERVER = """
    import subprocess, sys
    import modal
    app = modal.App("a")

    @app.server(port={port}, unauthenticated=True)
    class Site:
        @modal.enter()
        def begin(self):
            self.program = subprocess.Popen(
                [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
            )

        @modal.exit()
        def end(self):
            print("running" if self.program.poll() is None else "ended", file=sys.stderr)
"""
OF_CLASS = {"function": "Site.*", "qualname": "Site", "is_class": True}


def test_a_server_is_ready_when_its_port_accepts_and_its_exit_hook_finds_its_program(start):
    import httpx

    port = free_port()
    runner = start(SERVER.format(port=port), web={"Site": f"server:{port}"}, **OF_CLASS).ready()

    assert "Directory listing" in runner.client.get("/").text
    assert 0 == runner.terminate()
    assert "running" in runner.output
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)


def test_a_server_may_be_a_task_of_its_async_enter_hook(start):
    port = free_port()
    runner = start(
        f"""
        import asyncio, modal
        app = modal.App("a")

        @app.server(port={port})
        class Site:
            @modal.enter()
            async def begin(self):
                self.task = asyncio.ensure_future(self.listen())

            async def listen(self):
                self.server = await asyncio.start_server(self.answer, "127.0.0.1", {port})

            async def answer(self, reader, writer):
                await reader.readuntil(b"\\r\\n\\r\\n")
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\ntask")
                writer.close()
        """,
        web={"Site": f"server:{port}"},
        **OF_CLASS,
    ).ready()

    assert "task" == runner.client.get("/").text
    assert 0 == runner.terminate()


def test_a_server_that_never_listens_says_so(start):
    port = free_port()
    script = SERVER.format(port=port).replace('"-m", "http.server"', '"-c", "input()"')
    script = script.replace("subprocess.Popen(", "subprocess.Popen(stdin=subprocess.PIPE, args=")
    runner = start(script, web={"Site": f"server:{port}"}, port_timeout_s=0.3, **OF_CLASS)
    event = runner.event()

    assert ("failed", "port") == (event.kind, event.phase)
    assert f"Waited too long for port {port} to start accepting connections" in event.reason


def test_a_server_whose_program_ends_at_once_says_so(start):
    port = free_port()
    script = SERVER.format(port=port).replace('"http.server"', '"no_such_module"')
    event = start(script, web={"Site": f"server:{port}"}, **OF_CLASS).event()

    assert f"the program has ended before it listened on port {port}" in event.reason


def test_a_port_of_somebody_else_is_never_a_servers(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        event = start(SERVER.format(port=port), web={"Site": f"server:{port}"}, **OF_CLASS).event()

    assert "busy" == event.kind
