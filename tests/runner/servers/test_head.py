"""A request's head: fixed when it is complete, and the same for every kind of app."""

import json
import socket

import pytest

from homeport.runner.servers import head


def ask(runner, request: bytes) -> tuple[int, bytes]:
    """Send raw bytes; return the status and the body (or the chunks) of the answer."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(30)
        visitor.connect(runner.door)
        visitor.sendall(request)
        answer = b""
        while data := visitor.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        chunks, body = body, b""
        while (size := int(chunks.partition(b"\r\n")[0], 16)) > 0:
            body += chunks.partition(b"\r\n")[2][:size]
            chunks = chunks.partition(b"\r\n")[2][size + 2 :]
    return int(head.split(b" ", 2)[1]), body


SHOP = """
    import modal
    app = modal.App("a")

    @app.cls()
    class Shop:
        @modal.fastapi_endpoint(method="POST", docs=False)
        async def ping(self):
            return "public"

        @modal.fastapi_endpoint(method="POST", docs=False)
        async def wipe(self):
            return "PRIVATE"
"""


def test_a_trailer_never_becomes_a_header(start):
    runner = start(
        SHOP,
        web={"Shop.ping": "fastapi_endpoint", "Shop.wipe": "fastapi_endpoint"},
        is_class=True,
        method="POST",
    ).ready()
    first = (
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Homeport-Method: ping\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    trailer = b"0\r\nX-Homeport-Method: wipe\r\nX-Request-Id: 9\r\n\r\n"

    assert (200, b'"public"') == ask(runner, first + trailer)


SEEN = """
    import json
    import modal
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route, WebSocketRoute

    app = modal.App("a")

    def told(request):
        return {
            "headers": [[k.decode(), v.decode()] for k, v in request.scope["headers"]],
            "client": request.scope["client"],
            "scheme": request.scope["scheme"],
            "input": modal.current_input_id(),
        }

    async def asgi(request):
        await request.body()
        return JSONResponse(told(request))

    async def socket(websocket):
        await websocket.accept()
        await websocket.send_json(told(websocket))
        await websocket.close()

    @app.function()
    @modal.asgi_app()
    def web():
        return Starlette(routes=[
            Route("/{any:path}", asgi, methods=["GET", "POST"]), WebSocketRoute("/ws", socket),
        ])

    @app.function()
    @modal.wsgi_app()
    def flask():
        def plain(environ, start):
            environ["wsgi.input"].read()
            start("200 OK", [("Content-Type", "application/json")])
            told = {k: v for k, v in environ.items() if isinstance(v, str)}
            return [json.dumps({**told, "input": modal.current_input_id()}).encode()]
        return plain
"""
TRUE = (
    b"X-Request-Id: 7\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n"
    b"Connection: close\r\n"
)
FORGED = b"X_Request_Id: 8\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: http\r\n"


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_underscore_does_not_forge_what_the_ingress_says_to_an_asgi_app(start, order):
    runner = start(SEEN, web={"web": "asgi_app"}).ready()
    both = FORGED + TRUE if order == "before" else TRUE + FORGED
    status, body = ask(runner, b"GET / HTTP/1.1\r\nHost: x\r\nx_own: kept\r\n" + both + b"\r\n")
    seen = json.loads(body)

    assert 200 == status
    assert (["9.9.9.9", 0], "https", "in-7") == (seen["client"], seen["scheme"], seen["input"])
    assert ["x_own", "kept"] in seen["headers"]
    assert not [pair for pair in seen["headers"] if "6.6.6.6" in pair]


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_underscore_does_not_forge_what_the_ingress_says_to_a_wsgi_app(start, order):
    runner = start(SEEN, web={"flask": "wsgi_app"}).ready()
    both = FORGED + TRUE if order == "before" else TRUE + FORGED
    status, body = ask(runner, b"GET / HTTP/1.1\r\nHost: x\r\n" + both + b"\r\n")
    seen = json.loads(body)

    assert 200 == status
    assert ("9.9.9.9", "https", "in-7") == tuple(
        seen[key] for key in ("REMOTE_ADDR", "wsgi.url_scheme", "input")
    )
    assert "6.6.6.6" not in body.decode()


@pytest.mark.parametrize("kind", ["asgi_app", "wsgi_app"])
def test_a_trailer_is_not_seen_by_an_app_that_has_read_its_body(start, kind):
    name = "web" if kind == "asgi_app" else "flask"
    runner = start(SEEN, web={name: kind}).ready()
    status, body = ask(
        runner,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        + TRUE
        + b"\r\n2\r\nhi\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nX-Evil: 1\r\n\r\n",
    )

    assert 200 == status
    assert "6.6.6.6" not in body.decode()
    assert "evil" not in body.decode().lower()


def test_a_trailer_of_a_request_with_a_body_that_becomes_a_websocket_is_no_header(start):
    runner = start(SEEN, web={"web": "asgi_app"}).ready()
    request = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Evil: 1\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(30)
        visitor.connect(runner.door)
        visitor.sendall(request)
        answer = b""
        while data := visitor.recv(65536):
            answer += data
            if b"headers" in answer or b" 400 " in answer or b" 501 " in answer:
                break

    assert b"evil" not in answer.lower(), runner.output


@pytest.mark.parametrize("upgrade", [b"h2c", b"foo", b"foo/2"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_an_upgrade_that_is_not_supported_is_ignored_and_the_body_kept(start, upgrade, pieces):
    runner = start(
        """
        import modal
        app = modal.App("a")

        @app.function()
        @modal.asgi_app()
        def web():
            async def echo(scope, receive, send):
                assert scope["type"] == "http"
                body, more = b"", True
                while more:
                    message = await receive()
                    body, more = body + message["body"], message["more_body"]
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": body})
            return echo
        """,
        web={"web": "asgi_app"},
    ).ready()
    first = (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
        + upgrade
        + b"\r\nContent-Length: 5\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(30)
        visitor.connect(runner.door)
        for _ in range(2):  # and the connection goes on
            if pieces == 1:
                visitor.sendall(first + b"hello")
            else:
                visitor.sendall(first)
                visitor.sendall(b"hello")
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                data = visitor.recv(65536)
                assert data, answer
                answer += data

            assert answer.startswith(b"HTTP/1.1 200")
            assert b"\r\nhello\r\n" in answer


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"//api//items", {"PATH_INFO": "//api//items"}),
        (b"/files/a%2Fb?q=%2F", {"PATH_INFO": "/files/a/b", "QUERY_STRING": "q=%2F"}),
        (b"/x%252Fy", {"PATH_INFO": "/x%2Fy"}),
        (b"/%C3%A9%20", {"PATH_INFO": "/\u00c3\u00a9 ", "RAW_URI": "/%C3%A9%20"}),
        (b"/a;b?c?d", {"PATH_INFO": "/a;b", "QUERY_STRING": "c?d"}),
        (b"http://x/a//b?c", {"PATH_INFO": "/a//b", "QUERY_STRING": "c"}),
        (b"//evil.example/x", {"PATH_INFO": "//evil.example/x"}),
    ],
)
def test_a_wsgi_app_sees_its_path_as_under_gunicorn(start, target, expected):
    runner = start(SEEN, web={"flask": "wsgi_app"}).ready()
    status, body = ask(runner, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + TRUE + b"\r\n")
    seen = json.loads(body)

    assert 200 == status
    assert expected == {key: seen[key] for key in expected}
    assert seen["RAW_URI"] == seen["REQUEST_URI"] == target.decode()


def test_fields_that_come_twice_are_joined_for_a_wsgi_app(start):
    runner = start(SEEN, web={"flask": "wsgi_app"}).ready()
    twice = (
        b"X-Tag: one\r\nx-tag:two\r\nCookie: a=1\r\nCookie: b=2\r\n"
        b"Accept: text/html\r\nAccept: */*\r\n"
    )
    _, body = ask(runner, b"GET / HTTP/1.1\r\nHost: x\r\n" + twice + TRUE + b"\r\n")
    seen = json.loads(body)

    assert "one,two" == seen["HTTP_X_TAG"]
    assert "a=1; b=2" == seen["HTTP_COOKIE"]
    assert "text/html,*/*" == seen["HTTP_ACCEPT"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_400_and_are_logged_by_a_wsgi_container(start, request_bytes):
    runner = start(SEEN, web={"flask": "wsgi_app"}).ready()

    assert 400 == ask(runner, request_bytes)[0]
    runner.wait_for("Invalid HTTP request received")


@pytest.mark.parametrize(("name", "kind"), [("web", "asgi_app"), ("flask", "wsgi_app")])
def test_a_visitor_of_http_1_0_gets_no_chunks(start, name, kind):
    runner = start(
        """
        import modal
        app = modal.App("a")

        @app.function()
        @modal.asgi_app()
        def web():
            async def stream(scope, receive, send):
                assert scope["type"] == "http"
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for piece in (b"one ", b"two"):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body"})
            return stream

        @app.function()
        @modal.wsgi_app()
        def flask():
            def stream(environ, start):
                start("200 OK", [])
                yield b"one "
                yield b"two"
            return stream
        """,
        web={name: kind},
    ).ready()

    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(30)
        visitor.connect(runner.door)
        visitor.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        with visitor.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")

    assert b"one two" == body
    assert b"chunked" not in head.lower()


def test_every_spelling_that_wsgi_cannot_tell_apart_is_known():
    assert 3 == len(head.spellings(["x-request-id"]))
    assert b"x_homeport-method" in head.FORGED
    assert b"x-homeport-method" not in head.FORGED


def test_a_list_that_grows_later_is_not_the_apps():
    headers = [(b"x-request-id", b"7")]
    scope = {"type": "http", "headers": headers}
    found = head.read(scope)
    headers.append((b"x-homeport-method", b"wipe"))

    assert ("7", "") == (found.request_id, found.method)
    assert [(b"x-request-id", b"7")] == scope["headers"]
