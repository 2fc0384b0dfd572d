"""WSGI threads: when they end, when they hold a slot, and what happens if an app raises."""

import asyncio
import contextlib
import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest

from homeport.runner.servers import wsgi_inside, wsgi_server
from homeport.runner.servers.held import Held
from tests.orders import order
from tests.waiting import PATIENCE_S, until

SCRIPT = """
    import sys, threading, time
    import modal
    app = modal.App("a")
    free = threading.Event()

    class Pieces(list):
        def close(self):
            if self.works:
                free.wait(60)

    def plain(environ, start):
        path = environ["PATH_INFO"]
        if path == "/hang":
            print("hangs", flush=True)
            time.sleep(3600)
        if path == "/exit":
            sys.exit(3)
        if path == "/interrupt":
            raise KeyboardInterrupt
        if path == "/socket":
            print("waits", flush=True)
            connection = environ["werkzeug.socket"]
            connection.sendall(b"got " + connection.recv(5))
            return []
        if path == "/free":
            free.set()
        headers = [] if path == "/chunks" else [("Content-Length", "5")]
        start("200 OK", headers)
        pieces = Pieces([b"hel", b"lo"])
        pieces.works = path in ("/later", "/chunks")
        return pieces

    @app.function()
    @modal.wsgi_app()
    def web():
        return plain
"""


def held(runner):
    """Return the container's next message about held slots."""
    while (event := runner.event()).kind != "held":
        pass
    return event


@pytest.mark.parametrize("path", ["/exit", "/interrupt"])
def test_an_app_that_would_end_the_server_is_a_500_and_said(start, path):
    runner = start(SCRIPT, web={"web": "wsgi_app"}).ready()

    assert 500 == runner.client.get(path).status_code
    assert 200 == runner.client.get("/").status_code
    runner.wait_for(f"GET {path} failed")


def test_a_thread_that_hangs_is_replaced_and_too_many_of_them_end_the_container(start):
    runner = start(SCRIPT, web={"web": "wsgi_app"}, timeout_s=0.5).ready()

    assert 504 == runner.client.get("/hang").status_code
    assert (200, "hello") == (runner.client.get("/").status_code, runner.client.get("/").text)
    assert 504 == runner.client.get("/hang").status_code
    runner.wait_for("too many requests of this container hang")
    assert 1 == runner.process.wait(60)


@pytest.mark.parametrize("path", ["/later", "/chunks"])
def test_work_after_the_response_holds_its_slot(start, path):
    runner = start(SCRIPT, web={"web": "wsgi_app"}, max_inputs=2).ready()
    answers = [runner.client.get(path).text]
    event = held(runner)
    # On another connection: the server closes this one, perhaps while the client sends the next request.
    with httpx.Client(transport=httpx.HTTPTransport(uds=runner.door)) as other:
        other.get("http://localhost/free")

    assert ["hello"] == answers
    assert 1 == event.held
    while held(runner).held:  # that of `/free` may have been held too
        pass


def test_a_visitor_who_leaves_does_not_free_the_slot_of_a_thread_that_goes_on(start):
    runner = start(SCRIPT, web={"web": "wsgi_app"}).ready()
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(runner.door)
        visitor.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        runner.wait_for("hangs")

    assert 1 == held(runner).held


def test_an_answer_that_nobody_reads_ends_with_its_time(start):
    import socket

    runner = start(
        SCRIPT.replace('[b"hel", b"lo"]', '[b"x" * 8_000_000]').replace('"5"', '"8000000"'),
        web={"web": "wsgi_app"},
        timeout_s=1.0,
    ).ready()
    with socket.socket(socket.AF_UNIX) as idle, ThreadPoolExecutor(1) as pool:
        idle.connect(runner.door)
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        runner.wait_for("a request took longer than its timeout of 1 s")
        other = pool.submit(runner.client.get, "/").result()

    assert 8_000_000 == len(other.content)


def test_an_app_may_wait_on_the_socket_of_a_websocket(start):
    runner = start(SCRIPT, web={"web": "wsgi_app"}).ready()
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(runner.door)
        head = (
            b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        )
        visitor.sendall(head)
        runner.wait_for("waits")
        visitor.sendall(b"later")

        assert b"got later" == visitor.recv(100)


@pytest.mark.parametrize("single_use", [False, True])
def test_an_idle_container_ends_at_once(start, single_use):
    """Cheroot's own threads check only twice a second whether they must end."""
    seconds = []
    for _ in range(3):
        runner = start(SCRIPT, web={"web": "wsgi_app"}, single_use=single_use).ready()
        assert 200 == runner.client.get("/").status_code
        began = time.monotonic()
        if not single_use:
            runner.process.terminate()
        assert 0 == runner.process.wait(30)
        seconds.append(time.monotonic() - began)

    assert min(seconds) < 0.15, seconds


def test_the_loop_never_waits_for_a_visitor_who_reads_nothing():
    mine, visitor = socket.socketpair()
    with mine, visitor:
        mine.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                mine.send(bytes(65536))
        mine.setblocking(True)
        inside, later = object.__new__(wsgi_inside.Inside), []
        inside._loop = SimpleNamespace(call_later=lambda *call: later.append(call))
        request = SimpleNamespace(conn=SimpleNamespace(socket=mine), sent_headers=False)
        one = SimpleNamespace(request=request, is_late=False)
        ending = threading.Thread(target=inside._end, args=(one, None, b"late"), daemon=True)
        ending.start()
        ending.join(PATIENCE_S)

        assert not ending.is_alive()
        assert (True, True) == (one.is_late, request.sent_headers)
        assert [(inside._abandon, one, None)] == [call[1:] for call in later]


def test_the_pulse_knows_how_many_requests_are_inside_and_the_first_deadline():
    told = []
    pulse = SimpleNamespace(
        began=lambda: told.append("began"), inside=lambda *now: told.append(now)
    )
    inside = object.__new__(wsgi_inside.Inside)
    inside._serving, inside._timeout_s, inside._inside = SimpleNamespace(pulse=pulse), 5.0, {}
    one, other = inside.enter(object(), None), inside.enter(object(), None)
    inside.leave(one)
    inside.leave(other)

    entered = ["began", (1, one.deadline), "began", (2, one.deadline)]
    assert [*entered, (1, other.deadline), (0, None)] == told
    assert one.deadline <= other.deadline


async def test_the_last_bytes_of_a_slow_close_wait_for_a_visitor_who_does_not_read():
    """The loop has other requests, and a container whose loop stands still is killed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE_S)
        conn = SimpleNamespace(
            socket=ours, rfile=SimpleNamespace(incoming=SimpleNamespace(waits_since=math.inf))
        )
        conn.wfile = wsgi_server.Writer(ours, 8192)
        asked = SimpleNamespace(conn=conn, chunked_write=False, sent_headers=True, has_begun=True)
        orders = order(timeout_s=60)
        serving = SimpleNamespace(order=orders, held=Held(lambda _count: None), pulse=None)
        inside = wsgi_inside.Inside(serving)
        entered = inside.enter(asked, None)
        ours.setblocking(False)
        for size in (65536, 1):  # then there is no room for a few bytes either
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(bytes(size))
        ours.settimeout(PATIENCE_S)
        conn.wfile.held = True
        conn.wfile.write(b"the end")
        entered.closing_since = 0.0
        inside._release(entered)
        await until(lambda: entered.request.close_connection and not serving.held._waiting, "hold")
        received = b""
        theirs.setblocking(False)
        while not received.endswith(b"the end"):
            data = await asyncio.get_running_loop().sock_recv(theirs, 65536)
            assert data
            received = received[-7:] + data

        assert b"" == theirs.recv(1)
