"""What works under uvicorn works here: the event loop, its signals, its log, and programs that the script starts."""

import pytest

from tests.runner.servers.test_head import TRUE, ask

LOOP = """
    import asyncio, os, signal
    import modal
    app = modal.App("a")
    PATH = "{path}"

    @app.function()
    @modal.asgi_app()
    def web():
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        async def unix(request):
            server = await asyncio.start_unix_server(echo, PATH)
            async with server:
                assert server.is_serving()
                reader, writer = await asyncio.open_unix_connection(PATH)
                writer.write(b"mine\\n")
                heard = await reader.readline()
                writer.close()
            return PlainTextResponse(heard)

        async def handle(request):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, print, "theirs")
            return PlainTextResponse("")

        async def plain(request):
            signal.signal(signal.SIGTERM, lambda *_: print("theirs"))
            return PlainTextResponse("")

        async def remove(request):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, print, "theirs")
            assert loop.remove_signal_handler(signal.SIGTERM)
            return PlainTextResponse("")

        return Starlette(routes=[
            Route("/unix", unix), Route("/handle", handle), Route("/plain", plain),
            Route("/remove", remove),
        ])
"""


def test_a_script_may_have_servers_of_its_own_on_unix_sockets(start, tmp_path):
    runner = start(LOOP.format(path=tmp_path / "own.sock"), web={"web": "asgi_app"}).ready()

    assert "mine\n" == runner.client.get("/unix").text


@pytest.mark.parametrize(("path", "said"), [("/handle", 1), ("/plain", 1), ("/remove", 0)])
def test_a_script_that_handles_sigterm_hears_it_and_the_container_ends(start, tmp_path, path, said):
    runner = start(LOOP.format(path=tmp_path / "own.sock"), web={"web": "asgi_app"}).ready()

    assert 200 == runner.client.get(path).status_code
    assert 0 == runner.terminate()
    assert said == runner.output.count("theirs")


SYSTEM_EXIT = """
    import asyncio, sys
    import modal
    app = modal.App("a")

    @app.function()
    @modal.asgi_app()
    def web():
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.base import BaseHTTPMiddleware
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        async def through(request, call_next):
            return await call_next(request)

        async def handler(request):
            sys.exit(3)

        async def task(request):
            async def ends():
                raise SystemExit(4)
            asyncio.get_running_loop().create_task(ends())
            await asyncio.sleep(0.1)
            return PlainTextResponse("on")

        return Starlette(
            routes=[Route("/handler", handler), Route("/task", task)],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)],
        )
"""


def test_a_task_that_would_end_the_process_is_said_and_the_others_go_on(start):
    runner = start(SYSTEM_EXIT, web={"web": "asgi_app"}).ready()

    assert "on" == runner.client.get("/task").text
    assert 500 == runner.client.get("/handler").status_code
    assert "on" == runner.client.get("/task").text
    runner.wait_for("a task of the script has raised SystemExit")
    assert 0 == runner.terminate()


@pytest.mark.parametrize("configured", [False, True])
def test_a_line_by_uvicorns_logger_is_shown_once_with_its_request(start, configured):
    runner = start(
        f"""
        import logging
        import modal
        app = modal.App("a")
        if {configured}:
            logging.basicConfig(level=logging.INFO, format="%(message)s")

        @app.function()
        @modal.fastapi_endpoint()
        async def hello():
            logging.getLogger("uvicorn.error").info("said by info")
            logging.getLogger("uvicorn").warning("said by warning")
        """
    ).ready()
    assert 200 == ask(runner, b"GET / HTTP/1.1\r\nHost: x\r\n" + TRUE + b"\r\n")[0]

    runner.wait_for("said by info")
    runner.wait_for("said by warning")
    assert 1 == runner.output.count("said by info")
    assert "\x1e7\x1f" in runner.output
    assert "Started server" not in runner.output


def test_modal_can_be_imported_by_programs_that_a_container_starts(start):
    runner = start(
        """
        import subprocess, sys
        import modal
        app = modal.App("a")
        SCRIPT = "import modal, modal.exception, homeport; print(modal is homeport, modal.is_local())"

        @app.function()
        @modal.fastapi_endpoint()
        def hello():
            run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
            return run.stdout + run.stderr
        """
    ).ready()

    assert "True" == runner.client.get("/").json().split()[0]
