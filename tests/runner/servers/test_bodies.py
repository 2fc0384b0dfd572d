"""A request whose body does not arrive ends with 408, and its slot is free again."""

import select
import socket
import time

import pytest

from tests.ports import free_port

#: Shorter times than in the product: the request ends within `STALL_S` and one turn (`BEAT_S`).
SHORTER = """
    from homeport.runner.servers import bodies, turns
    bodies.STALL_S, turns.BEAT_S, turns.IDLE_BEAT_S = 1.0, 0.2, 0.2
    import modal, time
    app = modal.App("a")
"""
ENDED_S = 2.0

ASGI = (
    SHORTER
    + """
    import asyncio

    async def web_app(scope, receive, send):
        path = scope["path"]
        if path == "/work":
            await asyncio.sleep(2.5)
        head = {"type": "http.response.start", "status": 200, "headers": []}
        if path == "/talk":
            await send(head)
        size, more = 0, path not in ("/work", "/leave")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise OSError("gone")
            size, more = size + len(message["body"]), message["more_body"]
        if path != "/talk":
            await send(head)
        await send({"type": "http.response.body", "body": b"%d bytes" % size})

    @app.function()
    @modal.asgi_app()
    def web():
        return web_app
"""
)
WSGI = (
    SHORTER
    + """
    def web_app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/work":
            time.sleep(2.5)
        size = 0
        if path not in ("/work", "/leave"):
            size = len(environ["wsgi.input"].read())
            print("the whole body:", size)
        start_response("200 OK", [])
        return [b"%d bytes" % size]

    @app.function()
    @modal.wsgi_app()
    def web():
        return web_app
"""
)
PORT = (
    SHORTER
    + """
    PROGRAM = '''
    import sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_POST(self):
            if self.path == "/work":
                time.sleep(2.5)
            if self.path == "/talk":
                self.send_response(200)
                self.send_header("Content-Length", "8")
                self.end_headers()
                self.wfile.flush()
            size = 0
            if "Content-Length" in self.headers:
                size = len(self.rfile.read(int(self.headers["Content-Length"])))
            elif "Transfer-Encoding" in self.headers:
                while length := int(self.rfile.readline(), 16):
                    size += len(self.rfile.read(length))
                    self.rfile.readline()
                self.rfile.readline()
            text = b"%d bytes" % size
            if self.path != "/talk":
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Connection", "close")
                self.end_headers()
            self.wfile.write(text)
            self.close_connection = True
        do_GET = do_POST
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    '''

    @app.function()
    @modal.web_server(NUMBER)
    def web():
        import subprocess, sys, textwrap
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM), "NUMBER"])
"""
)
KINDS = ("asgi", "wsgi", "port")
HALF = {
    "announced": b"Content-Length: 10\r\n\r\nabc",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
}


@pytest.fixture
def serve(start):
    """Start a container of one kind, with one slot."""

    def serve(kind: str):
        number = free_port()
        script = {"asgi": ASGI, "wsgi": WSGI, "port": PORT.replace("NUMBER", str(number))}[kind]
        web = f"web_server:{number}" if kind == "port" else f"{kind}_app"
        return start(script, web={"web": web}, max_inputs=1, timeout_s=120.0).ready()

    return serve


def ask(runner, path: str, rest: bytes) -> socket.socket:
    visitor = socket.socket(socket.AF_UNIX)
    visitor.settimeout(30)
    visitor.connect(runner.door)
    visitor.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n%s" % (path.encode(), rest))
    return visitor


def read(visitor: socket.socket) -> bytes:
    with visitor, visitor.makefile("rb") as file:
        return file.read()


def stays_silent(visitor: socket.socket, seconds: float) -> bool:
    return not select.select([visitor], [], [], seconds)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", HALF)
def test_a_body_that_does_not_arrive_is_408_and_its_slot_is_free(serve, kind, half):
    runner = serve(kind)
    began = time.monotonic()
    answer = read(ask(runner, "/up?x=1", HALF[half]))

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert answer.rstrip().endswith(b"homeport: nothing of the request's body arrived for 1 s")
    assert time.monotonic() - began > 1.0
    assert b"2 bytes" in read(ask(runner, "/", b"Content-Length: 2\r\nConnection: close\r\n\r\nab"))
    said = runner.wait_for("nothing of the request's body arrived")
    if kind != "port":  # the program's own output differs
        assert "POST /up: nothing of the request's body arrived for 1 s" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", HALF)
def test_a_slow_upload_continues(serve, kind, half):
    visitor = ask(serve(kind), "/up", HALF[half].replace(b"Length: 10", b"Length: 11"))
    for _ in range(8):  # a piece comes much more often than `STALL_S`; all of them take longer
        assert stays_silent(visitor, 0.3)
        visitor.sendall({"announced": b"x", "chunked": b"1\r\nx\r\n"}[half])
    visitor.sendall({"announced": b"", "chunked": b"0\r\n\r\n"}[half])
    answer = visitor.recv(1000)
    while b"bytes" not in answer:
        answer += visitor.recv(1000)
    visitor.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"11 bytes" in answer


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_the_time_does_not_count_while_the_app_does_not_read(serve, kind):
    """The app's own work takes longer than a body may stand still."""
    visitor = ask(serve(kind), "/work", b"Connection: close\r\nContent-Length: 3\r\n\r\nab")
    assert stays_silent(visitor, ENDED_S)
    answer = read(visitor)

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_the_time_does_not_count_while_a_program_reads_nothing_of_a_large_body(serve):
    size = 30_000_000
    visitor = ask(serve("port"), "/work", b"Content-Length: %d\r\n\r\n" % size)
    visitor.sendall(bytes(size))
    answer = read(visitor)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"30000000 bytes")


@pytest.mark.parametrize("kind", ["asgi", "port"])
def test_the_time_does_not_count_once_the_response_has_begun(serve, kind):
    visitor = ask(serve(kind), "/talk", b"Content-Length: 5\r\n\r\nabc")
    assert visitor.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert stays_silent(visitor, ENDED_S)
    visitor.sendall(b"de")

    assert b"5 bytes" in visitor.recv(1000)
    visitor.close()


def test_a_connection_whose_body_does_not_arrive_after_the_response_is_closed(serve):
    visitor = ask(serve("asgi"), "/leave", b"Content-Length: 3\r\n\r\nab")

    assert read(visitor).startswith(b"HTTP/1.1 200 ")  # and the connection has ended


def test_a_wsgi_response_that_waits_for_the_rest_of_the_body_becomes_408(serve):
    """Before it answers, cheroot reads what the app has left unread."""
    runner = serve("wsgi")

    assert read(ask(runner, "/leave", b"Content-Length: 3\r\n\r\nab")).startswith(b"HTTP/1.1 408 ")
    assert read(
        ask(runner, "/leave", b"Connection: close\r\nContent-Length: 3\r\n\r\nabc")
    ).startswith(b"HTTP/1.1 200 ")


def test_a_wsgi_app_does_not_take_half_a_body_for_the_whole(serve):
    runner = serve("wsgi")
    read(ask(runner, "/up", HALF["announced"]))
    read(ask(runner, "/up", b"Connection: close\r\nContent-Length: 2\r\n\r\nab"))

    assert runner.wait_for("the whole body: 2").count("the whole body") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_of_a_visitor_who_waits_for_100_continue_begins_when_the_app_asks(serve, kind):
    """The time begins when the app asks (RFC 9110, 10.1.1)."""
    runner = serve(kind)
    visitor = ask(runner, "/up", b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert visitor.recv(1000).startswith(b"HTTP/1.1 100 ")
    assert read(visitor).startswith(b"HTTP/1.1 408 ")

    late = ask(
        runner, "/work", b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    )
    if kind == "port":  # it asks at once
        assert late.recv(1000).startswith(b"HTTP/1.1 100 ")
        late.sendall(b"ab")
        assert read(late).startswith(b"HTTP/1.1 200 ")
    late.close()
