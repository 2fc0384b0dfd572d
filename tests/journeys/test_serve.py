"""`homeport serve`: URLs, reload on save, mistakes, Ctrl-C."""

import re
import signal
import socket

import httpx
import pytest
from websockets.sync.client import connect

from tests import trees
from tests.waiting import wait_for

HELLO = """
    import modal

    app = modal.App("hello")

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        print("somebody asked")
        return "one"
"""


def url_of(command) -> str:
    return command.wait_for(r"(http://127\.0\.0\.1:\d+)").group(1)


def answer(visitor, url):
    try:
        return visitor.get(url).text
    except httpx.TransportError:
        return None


def test_serve_answers_logs_and_leaves_nothing_behind(terminal, write, visitor):
    command = terminal.serve(write(HELLO))
    url = url_of(command)

    assert '"one"' == visitor.get(url).text
    command.wait_for("somebody asked")
    command.wait_for(r"http://ada--hello-hello-dev\.localhost")
    assert 0 == command.interrupt()
    assert "Traceback" not in command.output
    assert [] == terminal.processes()
    assert [] == trees.sockets(terminal.home)
    with pytest.raises(httpx.ConnectError):
        visitor.get(url)


def test_saving_a_local_module_reloads(terminal, write, visitor):
    write("WORD = 'one'", "words.py")
    script = write(
        HELLO.replace('"one"', "words.WORD").replace("import modal", "import modal, words")
    )
    command = terminal.serve(script)
    url = url_of(command)
    assert '"one"' == visitor.get(url).text
    write("WORD = 'two'", "words.py")

    wait_for(lambda: '"two"' == visitor.get(url).text, "the new version")


def test_a_syntax_error_keeps_the_old_version_and_says_where(terminal, write, visitor):
    script = write(HELLO)
    command = terminal.serve(script)
    url = url_of(command)
    assert '"one"' == visitor.get(url).text
    write(HELLO.replace("def hello():", "def hello(:"))
    command.wait_for(r"script\.py:8")
    assert '"one"' == visitor.get(url).text
    write(HELLO.replace('"one"', '"two"'))

    wait_for(lambda: '"two"' == visitor.get(url).text, "the mended version")


def test_no_request_fails_while_versions_change(terminal, write, visitor):
    script = write(HELLO)
    command = terminal.serve(script)
    url = url_of(command)
    for number in range(3):
        write(HELLO.replace('"one"', f'"v{number}"'))
        wait_for(lambda n=number: f'"v{n}"' == visitor.get(url).raise_for_status().text, "a reload")

    assert script.exists()


OPEN = """
    import asyncio
    import modal
    from fastapi import FastAPI, WebSocket
    from fastapi.responses import StreamingResponse

    app = modal.App("open")
    web = FastAPI()

    @web.get("/")
    async def version():
        return "v1"

    @web.get("/forever")
    async def forever():
        async def beats():
            while True:
                yield b"beat\\n"
                await asyncio.sleep(0.05)
        return StreamingResponse(beats())

    @web.websocket("/ws")
    async def ws(socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    @app.function()
    @modal.concurrent(max_inputs=10)
    @modal.asgi_app()
    def whole():
        return web
"""


MORE = """
    @web.post("/boom")
    async def boom():
        return 1 / 0
"""

GREEDY = """
    import time
    import modal

    app = modal.App("greedy")

    @app.function(memory=(64, 128))
    @modal.fastapi_endpoint()
    def hungry():
        taken = bytearray(400 << 20)
        time.sleep(30)
        return len(taken)
"""


def test_open_streams_and_websockets_hold_up_neither_reload_nor_ctrl_c(terminal, write, visitor):
    command = terminal.serve(write(OPEN))
    url = url_of(command)
    with (
        visitor.stream("GET", f"{url}/forever") as stream,
        connect(url.replace("http", "ws") + "/ws", proxy=None) as chat,
    ):
        assert b"beat\n" == next(stream.iter_raw())[:5]
        chat.send("x")
        assert "x" == chat.recv()
        write(OPEN.replace('"v1"', '"v2"'))
        wait_for(lambda: '"v2"' == visitor.get(url).text, "the new version")
        with visitor.stream("GET", f"{url}/forever") as second:
            next(second.iter_raw())
            assert 0 == command.interrupt()  # it waits for a minute, and not for the streams' end

    assert [] == terminal.processes()


def test_a_handler_that_raises_is_a_500_with_its_traceback_in_the_terminal(
    terminal, write, visitor
):
    command = terminal.serve(write(HELLO.replace('return "one"', "return 1 / 0")))

    assert 500 == visitor.get(url_of(command)).status_code
    command.wait_for("ZeroDivisionError")
    assert "uvicorn" not in command.output


def test_each_request_has_a_line_with_what_it_came_to(terminal, write, visitor):
    command = terminal.serve(write(OPEN + MORE))
    url = url_of(command)
    visitor.post(f"{url}/boom?secret=1")
    line = command.wait_for(r"^whole .*POST /boom ->").string
    assert re.fullmatch(
        r"whole ta-\w+ POST /boom -> 500 Internal Server Error \([\d.]+ m?s(, cold)?\)", line
    )
    visitor.get(f"{url}/a%1b%5b2J")
    line = command.wait_for("^whole .*GET /a.*->").string
    assert re.fullmatch(r"whole ta-\w+ GET /a%1b%5b2J -> 404 Not Found \(\d+ ms\)", line)
    with connect(url.replace("http", "ws") + "/ws", proxy=None) as chat:
        chat.send("x")
        chat.recv()

    line = command.wait_for("^whole .*GET /ws ->").string
    assert "-> 101 Switching Protocols (" in line
    assert "secret" not in command.output


def test_a_killed_container_says_why(terminal, write, visitor):
    command = terminal.serve(write(GREEDY))
    url = url_of(command)
    assert 502 == visitor.get(url).status_code

    line = command.wait_for("^hungry ta-.*128 MiB").string
    assert "memory" in line
    command.wait_for(r"^hungry .*GET / -> 502 Bad Gateway")


def test_a_container_that_cannot_start_tells_the_visitor_why(terminal, write, visitor):
    script = write(
        HELLO.replace(
            "app = modal.App", "if not modal.is_local(): import nonsense\n    app = modal.App"
        )
    )
    command = terminal.serve(script)
    answer = visitor.get(url_of(command))

    assert 503 == answer.status_code
    assert "nonsense" in answer.text
    assert "Retry-After" in answer.headers
    command.wait_for("ModuleNotFoundError")
    write(HELLO)
    wait_for(lambda: visitor.get(url_of(command)).status_code == 200, "the mended script")


def test_two_sessions_share_a_server_and_the_newer_takes_the_label(terminal, write, visitor):
    first = terminal.serve(write(HELLO))
    url_of(first)
    second = terminal.serve(write(HELLO.replace('"one"', '"two"'), "other.py"))
    second.wait_for("stolen")
    port = terminal.status()["http_port"]
    told = visitor.get(
        f"http://127.0.0.1:{port}/", headers={"Host": "ada--hello-hello-dev.localhost"}
    )

    assert '"two"' == told.text
    assert 0 == first.interrupt()
    assert "the server stays for another session" in first.output
    told = visitor.get(
        f"http://127.0.0.1:{port}/", headers={"Host": "ada--hello-hello-dev.localhost"}
    )
    assert '"two"' == told.text
    assert 0 == second.interrupt()
    wait_for(lambda: not terminal.processes(), "the server's end")


def test_a_session_that_begins_while_the_last_one_ends_has_a_server_of_its_own(
    terminal, write, visitor
):
    first = terminal.serve(write(HELLO))
    assert '"one"' == visitor.get(url_of(first)).text
    for _ in range(3):
        first.process.send_signal(signal.SIGINT)
        first = terminal.serve(write(HELLO))

    assert '"one"' == visitor.get(url_of(first)).text
    assert 0 == first.interrupt()


def test_serve_works_on_a_running_server_and_leaves_it_running(terminal, write, visitor):
    terminal.run("up")
    command = terminal.serve(write(HELLO))
    url = url_of(command)
    assert '"one"' == visitor.get(url).text
    assert 0 == command.interrupt()

    wait_for(lambda: not terminal.urls(), "the session's end")
    assert terminal.status()["pid"]


def test_a_killed_serve_leaves_nothing_behind(terminal, write, visitor):
    command = terminal.serve(write(HELLO))
    assert '"one"' == visitor.get(url_of(command)).text
    command.process.kill()
    command.end()

    wait_for(lambda: not terminal.processes(), "the end of everything")


def test_a_killed_server_takes_its_containers_with_it(terminal, write, visitor):
    command = terminal.serve(write(HELLO))
    assert '"one"' == visitor.get(url_of(command)).text
    import psutil

    psutil.Process(terminal.status()["pid"]).kill()
    assert 1 == command.end()

    wait_for(lambda: not terminal.processes(), "the end of everything")


def test_a_port_in_use_is_a_clear_error(terminal, write):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = terminal.run("serve", write(HELLO), "--http-port", str(port), check=False)

    assert 1 == done.returncode
    assert f"port {port}" in done.stderr
    assert "--http-port" in done.stderr
    assert [] == terminal.processes()
