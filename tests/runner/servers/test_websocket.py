"""WebSockets as the ingress sends them: failing handshakes, large heads, connections that stay open."""

import socket

import pytest

from tests.runner.servers.test_head import TRUE

SCRIPT = """
    import modal
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    app = modal.App("a")

    async def chat(websocket):
        await websocket.accept()
        await websocket.send_text(str(len(websocket.headers.get("x-large", ""))))
        while True:
            await websocket.receive_text()

    async def later(websocket):
        import asyncio
        await websocket.accept()
        await websocket.close()
        await asyncio.sleep(60)

    async def refuse(websocket):
        await websocket.close()

    @app.function()
    @modal.asgi_app()
    def web():
        return Starlette(routes=[
            WebSocketRoute("/ws", chat), WebSocketRoute("/no", refuse),
            WebSocketRoute("/later", later),
        ])
"""
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HANDSHAKE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
MARK = TRUE.replace(b"Connection: close\r\n", b"")


@pytest.fixture
def knock(start):
    """Send a head; return the connection, which stays open until the test ends."""
    opened = []

    def knock(runner, path: str, fields: bytes, *, body: bytes = b"") -> socket.socket:
        visitor = socket.socket(socket.AF_UNIX)
        opened.append(visitor)
        visitor.settimeout(30)
        visitor.connect(runner.door)
        visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + fields + b"\r\n" + body)
        return visitor

    yield knock
    for visitor in opened:
        visitor.close()


def test_a_head_as_large_as_the_ingress_lets_through_is_a_websocket(start, knock):
    runner = start(SCRIPT, web={"web": "asgi_app"}).ready()
    many = b"".join(b"X-Field-%d: x\r\n" % number for number in range(240))
    for large in (b"X-Large: " + b"x" * 30_000 + b"\r\n", many):
        visitor = knock(runner, "/ws", HANDSHAKE + KEY + MARK + large)

        assert b"HTTP/1.1 101 " in visitor.recv(65536)
        visitor.close()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (HANDSHAKE + MARK, 400),  # without a key
        (HANDSHAKE.replace(b"13", b"7") + KEY + MARK, 400),
        (HANDSHAKE + KEY + MARK + b"X: " + b"x" * 100_000 + b"\r\n", 431),
        (HANDSHAKE + KEY + MARK + b"".join(b"X%d: x\r\n" % n for n in range(400)), 431),
        (HANDSHAKE + KEY + MARK + b"Transfer-Encoding: chunked\r\n", 400),
    ],
)
def test_a_handshake_that_fails_is_answered_and_said(start, knock, fields, status):
    runner = start(SCRIPT, web={"web": "asgi_app"}).ready()
    visitor = knock(runner, "/ws", fields)

    assert visitor.recv(65536).startswith(b"HTTP/1.1 %d " % status), runner.output
    runner.wait_for("failed")
    assert f"({status})" in runner.output
    assert "Traceback" not in runner.output


def test_a_refusal_by_the_app_is_said_with_its_request(start, knock):
    runner = start(SCRIPT, web={"web": "asgi_app"}).ready()
    visitor = knock(runner, "/no", HANDSHAKE + KEY + MARK)

    assert visitor.recv(65536).startswith(b"HTTP/1.1 403 ")
    runner.wait_for("\x1e7\x1fWEBSOCKET /no was refused by the app (403)")


@pytest.mark.parametrize("code", [1000, 1001, 1005])
def test_a_visitor_who_leaves_in_order_is_no_traceback(start, knock, code):
    runner = start(SCRIPT, web={"web": "asgi_app"}).ready()
    visitor = knock(runner, "/ws", HANDSHAKE + KEY + MARK)
    visitor.recv(65536)
    payload = b"" if code == 1005 else code.to_bytes(2, "big")
    visitor.sendall(bytes([0x88, 0x80 | len(payload)]) + bytes(4) + payload)
    while visitor.recv(65536):
        pass

    assert 0 == runner.terminate()
    assert "Traceback" not in runner.output


def test_a_websocket_ends_with_its_time_even_if_nobody_reads(start, knock):
    runner = start(SCRIPT, web={"web": "asgi_app"}, timeout_s=1.0).ready()
    visitor = knock(runner, "/ws", HANDSHAKE + KEY + MARK)
    heard = b""
    while data := visitor.recv(65536):
        heard += data

    assert (1011).to_bytes(2, "big") in heard
    runner.wait_for("a request took longer than its timeout of 1 s")


def test_work_after_a_websocket_was_closed_holds_its_slot(start, knock):
    runner = start(SCRIPT, web={"web": "asgi_app"}).ready()
    knock(runner, "/later", HANDSHAKE + KEY + MARK)
    event = runner.event()

    assert ("held", 1) == (event.kind, event.held)
