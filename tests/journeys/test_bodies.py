"""A request whose body does not arrive holds its slot only for a limited time: over HTTP/1.1 and HTTP/2, in each kind of container."""

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

from tests.ports import free_port

PATIENCE_S = 60.0
SCRIPT = """
    import modal
    app = modal.App("halves")

    @app.function(max_containers=1, timeout=300)
    @modal.fastapi_endpoint(method="POST")
    def plain(body: dict):
        return body

    @app.function(max_containers=1, timeout=300)
    @modal.wsgi_app()
    def threads():
        def web_app(environ, start_response):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            start_response("200 OK", [])
            return [body]
        return web_app

    PROGRAM = '''
    import sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)
    ThreadingHTTPServer(("127.0.0.1", NUMBER), Handler).serve_forever()
    '''

    @app.function(max_containers=1, timeout=300)
    @modal.web_server(NUMBER)
    def program():
        import subprocess, sys, textwrap
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM)])
"""
SMALL = b'{"a": 1}'  # HAProxy waits for it, before the request takes a slot
LARGE = b'{"a": "%s"}' % (
    b"x" * 20_000
)  # over `ingress/rules.SMALL_BODY_BYTES`: the container waits for it


def over_http_1(host: str, port: int, body: bytes) -> int:
    """Send the beginning of a body; return the status of the answer, after which the connection is closed."""
    with socket.create_connection((host, port), timeout=PATIENCE_S) as visitor:
        visitor.sendall(
            b"POST / HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (host.encode(), port, len(body), body[:3])
        )
        with visitor.makefile("rb") as file:
            return int(file.read().split()[1])


def over_http_2(host: str, port: int, body: bytes) -> int:
    """Send the beginning of a body as one stream; return the status of the answer."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    with socket.create_connection((host, port), timeout=PATIENCE_S) as visitor:
        http.initiate_connection()
        http.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", f"{host}:{port}"),
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
            ],
        )
        http.send_data(1, body[:3])
        visitor.sendall(http.data_to_send())
        while data := visitor.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return int(dict(event.headers)[":status"])
            visitor.sendall(http.data_to_send())
    raise AssertionError("the connection was closed without an answer")


def test_half_a_body_is_408_and_the_next_visitor_is_served(terminal, write, visitor):
    urls = terminal.deploy(write(SCRIPT.replace("NUMBER", str(free_port()))))
    assert {"plain", "threads", "program"} == set(urls)
    # All at once, because each waits for as long as a visitor may pause.
    ways = [(over_http_1, SMALL), (over_http_2, SMALL), (over_http_2, LARGE)]
    with ThreadPoolExecutor(len(urls) * len(ways)) as threads:
        answers = {
            (name, ask.__name__, len(body)): threads.submit(
                ask, urlsplit(url).hostname, urlsplit(url).port, body
            )
            for name, url in urls.items()
            for ask, body in ways
        }
    assert {408} == {answer.result() for answer in answers.values()}, answers

    for name, url in urls.items():
        answer = visitor.post(url, content=LARGE, headers={"Content-Type": "application/json"})
        assert 200 == answer.status_code, (name, answer.text)
