"""Every kind of web function answers, end to end: command line, HAProxy, container."""

import json

import httpx
import pytest
from websockets.sync.client import connect

FASTAPI = """
    import asyncio
    import modal
    from fastapi import Depends, Header, Request
    from fastapi.responses import HTMLResponse, StreamingResponse
    from pydantic import BaseModel

    app = modal.App("kinds")

    class Item(BaseModel):
        name: str
        count: int = 1

    def shout(x_shout: str = Header("no")) -> bool:
        return x_shout == "yes"

    @app.function()
    @modal.fastapi_endpoint()
    def search(query: str, limit: int = 10, loud: bool = Depends(shout)):
        return {"query": query.upper() if loud else query, "limit": limit}

    @app.function()
    @modal.fastapi_endpoint(method="POST", docs=True)
    async def add(item: Item):
        return item

    @app.function()
    @modal.fastapi_endpoint(label="the-page")
    def page():
        return HTMLResponse("<h1>hi</h1>")

    @app.function()
    @modal.fastapi_endpoint()
    def stream():
        def pieces():
            for n in range(3):
                yield f"data: {n}\\n\\n"
        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.function()
    @modal.fastapi_endpoint()
    def seen(request: Request):
        return {
            "client": request.client.host,
            "scheme": request.url.scheme,
            "host": request.headers["host"],
            "forwarded": request.headers.getlist("x-forwarded-for"),
            "url": search.get_web_url(),
            "local": modal.is_local(),
        }
"""


@pytest.fixture
def kinds(terminal, write):
    return terminal.deploy(write(FASTAPI))


def test_fastapi_endpoints_answer_as_fastapi_does(terminal, kinds, visitor):
    found = visitor.get(kinds["search"], params={"query": "x", "limit": "3"})
    shouted = visitor.get(kinds["search"], params={"query": "x"}, headers={"X-Shout": "yes"})
    bad = visitor.get(kinds["search"], params={"query": "x", "limit": "many"})
    made = visitor.post(kinds["add"], json={"name": "boat"})
    page = visitor.get(kinds["page"])
    streamed = visitor.get(kinds["stream"])

    assert {"query": "x", "limit": 3} == found.json()
    assert {"query": "X", "limit": 10} == shouted.json()
    assert 422 == bad.status_code
    assert {"name": "boat", "count": 1} == made.json()
    assert "<h1>hi</h1>" == page.text
    assert "data: 0\n\ndata: 1\n\ndata: 2\n\n" == streamed.text
    assert 404 == visitor.get(kinds["search"] + "/docs").status_code
    assert 200 == visitor.get(kinds["add"] + "/docs").status_code
    assert 405 == visitor.get(kinds["add"]).status_code
    preflight = visitor.options(
        kinds["search"],
        headers={"Origin": "http://x.example", "Access-Control-Request-Method": "GET"},
    )
    assert "http://x.example" == preflight.headers["access-control-allow-origin"]

    status = terminal.status()
    urls = {e["tag"]: e["url"] for app in status["apps"] for e in app["endpoints"]}
    host = httpx.URL(urls["page"]).host
    assert "ada--the-page.localhost" == host
    by_host = visitor.get(
        f"http://127.0.0.1:{status['http_port']}/", headers={"Host": f"{host}:1234"}
    )
    assert "<h1>hi</h1>" == by_host.text


def test_the_app_sees_the_true_client_and_nothing_forged(terminal, kinds, visitor):
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Real-IP": "6.6.6.6"}
    seen = visitor.get(kinds["seen"], headers=forged).json()

    assert ("127.0.0.1", "http") == (seen["client"], seen["scheme"])
    assert "6.6.6.6" not in json.dumps(seen)
    assert seen["url"].startswith("http://ada--kinds-search.localhost")
    assert seen["local"] is False


def test_an_unknown_host_is_404_and_names_the_known_ones_here(terminal, kinds, visitor):
    port = terminal.status()["http_port"]
    answer = visitor.get(f"http://127.0.0.1:{port}/", headers={"Host": "nobody.localhost"})

    assert 404 == answer.status_code
    assert answer.text.startswith("homeport: ")
    assert "ada--kinds-search" in answer.text


ASGI = """
    from contextlib import asynccontextmanager
    import modal
    from fastapi import FastAPI, Request, WebSocket
    from starlette.responses import StreamingResponse

    app = modal.App("asgi")

    @asynccontextmanager
    async def lifespan(_app):
        print("lifespan starts")
        yield {"greeting": "hello"}
        print("lifespan ends")

    web = FastAPI(lifespan=lifespan)

    @web.get("/hello")
    async def hello(request: Request):
        return request.state.greeting

    @web.post("/size")
    async def size(request: Request):
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
        return total

    @web.get("/boom")
    async def boom():
        raise ValueError("the boiler burst")

    @web.websocket("/ws")
    async def echo(socket: WebSocket):
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        async for text in socket.iter_text():
            await socket.send_text(text[::-1])

    @app.function()
    @modal.concurrent(max_inputs=10)
    @modal.asgi_app()
    def whole():
        return web
"""


def test_an_asgi_app_has_its_lifespan_streams_and_websockets(terminal, write, visitor):
    url = terminal.deploy(write(ASGI))["whole"]

    assert "hello" == visitor.get(f"{url}/hello").json()
    chunks = (b"x" * 10_000 for _ in range(100))
    assert 1_000_000 == visitor.post(f"{url}/size", content=chunks).json()
    with connect(url.replace("http", "ws") + "/ws", subprotocols=["chat"], proxy=None) as socket:
        socket.send("harbour")
        assert "ruobrah" == socket.recv()
        assert "chat" == socket.subprotocol
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        socket.send("x" * (2 * 1024 * 1024 + 1))
        with pytest.raises(Exception) as closed:
            socket.recv()
        assert 1009 == closed.value.rcvd.code

    boom = visitor.get(f"{url}/boom")
    assert (500, "Internal Server Error") == (boom.status_code, boom.text)
    log = terminal.log("asgi", "ValueError: the boiler burst", "lifespan starts")
    assert "site-packages" not in log


WSGI = """
    import threading
    import modal
    from flask import Flask, Response, request
    from flask_sock import Sock

    app = modal.App("wsgi")
    web = Flask(__name__)
    sock = Sock(web)
    together = threading.Barrier(3, timeout=30)

    @web.get("/")
    def index():
        return {"you": request.remote_addr, "url": request.url}

    @web.get("/together")
    def meet():
        together.wait()
        return "met"

    @web.post("/upload")
    def upload():
        size = 0
        while piece := request.stream.read(65536):
            size += len(piece)
        return str(size)

    @web.get("/stream")
    def stream():
        return Response((f"{n}\\n" for n in range(3)), mimetype="text/plain")

    @sock.route("/ws")
    def echo(ws):
        while True:
            ws.send(ws.receive()[::-1])

    @app.function()
    @modal.concurrent(max_inputs=5)
    @modal.wsgi_app()
    def flask_app():
        return web
"""


def test_a_wsgi_app_has_threads_streams_and_websockets(terminal, write, visitor):
    from concurrent.futures import ThreadPoolExecutor

    url = terminal.deploy(write(WSGI))["flask_app"]

    assert {"you": "127.0.0.1", "url": f"{url}/"} == visitor.get(url).json()
    with ThreadPoolExecutor(3) as pool:
        met = list(pool.map(lambda _: visitor.get(f"{url}/together").text, range(3)))
    assert ["met"] * 3 == met
    chunks = (b"x" * 10_000 for _ in range(100))
    assert "1000000" == visitor.post(f"{url}/upload", content=chunks).text
    assert "0\n1\n2\n" == visitor.get(f"{url}/stream").text
    with connect(url.replace("http", "ws") + "/ws", proxy=None) as socket:
        for word in ("harbour", "quay"):
            socket.send(word)
            assert word[::-1] == socket.recv()


CLASS = """
    import modal
    from fastapi import FastAPI

    app = modal.App("classes")

    @app.cls()
    @modal.concurrent(max_inputs=4)
    class Model:
        size: int = modal.parameter(default=1)

        @modal.enter()
        def first(self):
            self.trail = [f"size {self.size}"]

        @modal.enter()
        async def second(self):
            self.trail.append("second")

        @modal.exit()
        def leave(self):
            print("left the model")

        @modal.fastapi_endpoint()
        def read(self):
            return self.trail

        @modal.fastapi_endpoint(method="POST")
        def grow(self, data: dict):
            self.trail.append(data["word"])
            return len(self.trail)

        @modal.asgi_app()
        def whole(self):
            web = FastAPI()

            @web.get("/trail")
            async def trail():
                return self.trail

            return web
"""


def test_the_web_methods_of_a_class_share_its_container(terminal, write, visitor):
    urls = terminal.deploy(write(CLASS))
    grown = visitor.post(urls["Model.grow"], json={"word": "third"}).json()

    assert 3 == grown
    assert ["size 1", "second", "third"] == visitor.get(urls["Model.read"]).json()
    assert ["size 1", "second", "third"] == visitor.get(urls["Model.whole"] + "/trail").json()
    assert 1 == len(terminal.json("container", "list"))
    other = visitor.get(urls["Model.read"], params={"size": "7"})
    assert ["size 7", "second"] == other.json()
    assert 2 == len(terminal.json("container", "list"))
    bad = visitor.get(urls["Model.read"], params={"size": "big"})
    assert 400 == bad.status_code
    assert "`size` (int, optional)" in bad.text
    terminal.run("app", "stop", "classes", "-y")
    terminal.run("down")
    log = (terminal.home / "logs" / "classes.jsonl").read_text()
    assert 2 == log.count("left the model")
