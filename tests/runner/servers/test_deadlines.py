"""A slot lasts until the request has arrived and the answer has left, or its time is up."""

import select
import socket

import pytest

from tests.waiting import PATIENCE_S

SCRIPT = """
    import modal
    app = modal.App("a")

    @app.function()
    @modal.asgi_app()
    def web():
        async def plain(scope, receive, send):
            assert scope["type"] == "http"
            if scope["path"] == "/up":
                while (await receive()).get("more_body"):
                    pass
            size = 8_000_000 if scope["path"] == "/big" else 200_000 if scope["path"] == "/medium" else 5
            length = [(b"content-length", str(size).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": b"x" * size})
        return plain
"""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /medium HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),  # the kernel's buffer holds all of it
        (b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"504"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", b"200"),
    ],
)
def test_a_visitor_who_stands_still_loses_the_connection_when_the_time_is_up(start, head, status):
    runner = start(SCRIPT, web={"web": "asgi_app"}, timeout_s=1.0).ready()
    with socket.socket(socket.AF_UNIX) as idle:
        idle.settimeout(30)
        idle.connect(runner.door)
        idle.sendall(head)
        ended = select.poll()
        ended.register(idle, 0)  # wait only for the other side to close
        closed = ended.poll(PATIENCE_S * 1000)
        answer = idle.recv(100)

    assert closed
    assert answer.startswith(b"HTTP/1.1 " + status)
