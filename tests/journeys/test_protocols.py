"""Protocols: HTTP/2 without TLS, WebSockets over it, streams without delay, clients that hang up."""

import socket
import threading
from urllib.parse import urlsplit

import httpx
import pytest

from tests import http2
from tests.waiting import wait_for

APP = """
    import asyncio
    import modal
    from fastapi import FastAPI, Request, WebSocket
    from starlette.responses import StreamingResponse

    app = modal.App("wire")
    web = FastAPI()
    go_on = asyncio.Event()

    @web.get("/")
    async def version(request: Request):
        return request.headers["host"]

    @web.get("/events")
    async def events():
        async def pieces():
            yield "data: first\\n\\n"
            await go_on.wait()
            yield "data: last\\n\\n"
        return StreamingResponse(pieces(), media_type="text/event-stream")

    @web.post("/go-on")
    async def release():
        go_on.set()

    @web.get("/wait")
    async def wait(request: Request):
        print("somebody waits")
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        print("and has left")

    @web.websocket("/ws")
    async def echo(socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text[::-1])
            if text == "bye":
                await socket.close(4001, "enough")
                return

    @web.websocket("/no")
    async def refuse(socket: WebSocket):
        await socket.close()

    @app.function()
    @modal.concurrent(max_inputs=20)
    @modal.asgi_app()
    def whole():
        return web
"""


@pytest.fixture
def url(terminal, write) -> str:
    return terminal.deploy(write(APP))["whole"]


def test_the_port_for_http_answers_http_2_without_tls(url):
    with httpx.Client(http1=False, http2=True, timeout=60, trust_env=False) as client:
        answers = [client.get(url) for _ in range(3)]

    assert ["HTTP/2"] * 3 == [answer.http_version for answer in answers]
    assert {200} == {answer.status_code for answer in answers}


def test_events_arrive_as_they_are_sent(url, visitor):
    with visitor.stream("GET", f"{url}/events") as stream:
        pieces = stream.iter_text()
        assert "data: first\n\n" == next(pieces)
        httpx.post(f"{url}/go-on", timeout=60, trust_env=False)
        assert "data: last\n\n" == next(pieces)


def test_a_handler_sees_its_visitor_leave(terminal, url):
    command = terminal.start("app", "logs", "wire", "-f")
    there = urlsplit(url)
    with socket.create_connection((there.hostname, there.port)) as visitor:
        visitor.sendall(f"GET /wait HTTP/1.1\r\nHost: {there.netloc}\r\n\r\n".encode())
        command.wait_for("somebody waits")

    command.wait_for("and has left")


def test_close_codes_and_refusals_pass_through(url):
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    base = url.replace("http", "ws")
    with connect(f"{base}/ws", proxy=None) as chat:
        chat.send("bye")
        assert "eyb" == chat.recv()
        with pytest.raises(ConnectionClosed) as closed:
            chat.recv()
    with pytest.raises(InvalidStatus) as refused, connect(f"{base}/no", proxy=None):
        pass

    assert (4001, "enough") == (closed.value.rcvd.code, closed.value.rcvd.reason)
    assert 403 == refused.value.response.status_code


def test_a_websocket_works_over_http_2(url):
    authority = url.removeprefix("http://")
    host, port = authority.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as wire:
        answer = http2.said(wire, "http", authority, "/ws", "harbour")

    assert "ruobrah" == answer


CANCELLED = """
    import asyncio
    import modal

    app = modal.App("cancelled")
    cancelled = asyncio.Event()

    @app.function(max_containers=1)
    @modal.concurrent(max_inputs=5)
    @modal.fastapi_endpoint()
    async def wait(leaves: bool):
        print("somebody waits")
        try:
            await (asyncio.Event() if leaves else cancelled).wait()
        except asyncio.CancelledError:
            print("was cancelled")
            cancelled.set()
            raise
        return "waited"
"""


def test_a_visitor_who_leaves_cancels_their_own_request_alone(terminal, write):
    url = terminal.deploy(write(CANCELLED))["wait"]
    answers = []
    neighbour = threading.Thread(
        target=lambda: answers.append(
            httpx.get(url, params={"leaves": False}, timeout=60, trust_env=False).text
        )
    )
    neighbour.start()
    log = terminal.start("app", "logs", "cancelled", "-f")
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as visitor:
        visitor.sendall(b"GET /?leaves=true HTTP/1.1\r\nHost: %s\r\n\r\n" % address.netloc.encode())
        wait_for(lambda: log.output.count("somebody waits") == 2, "both of them inside")
    log.wait_for("was cancelled")
    neighbour.join()

    assert ['"waited"'] == answers
    log = terminal.run("app", "logs", "cancelled").stdout
    assert 1 == log.count("was cancelled")
    assert "Traceback" not in log
