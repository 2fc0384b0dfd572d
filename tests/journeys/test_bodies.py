"""A request whose body does not arrive holds its slot only for a limited time: over HTTP/1.1 and HTTP/2, for each kind of server."""

import socket
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

from tests.ports import free_port

PATIENCE_S = 30.0
SCRIPT = """
    from homeport.runner.servers import bodies
    bodies.STALL_S = 1.0
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
BODY = b'{"a": 1}'


def over_http_1(host: str, port: int) -> int:
    """Send half of a body; return the status of the answer, after which the connection is closed."""
    with socket.create_connection((host, port), timeout=PATIENCE_S) as visitor:
        visitor.sendall(
            b"POST / HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (host.encode(), port, len(BODY), BODY[:3])
        )
        with visitor.makefile("rb") as file:
            return int(file.read().split()[1])


def over_http_2(host: str, port: int) -> int:
    """Send half of a body as one stream; return the status of the answer."""
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
                ("content-length", str(len(BODY))),
            ],
        )
        http.send_data(1, BODY[:3])
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
    for name, url in urls.items():
        place = urlsplit(url)
        host, port = place.hostname, place.port
        for ask in (over_http_1, over_http_2):
            answer = visitor.post(url, content=BODY, headers={"Content-Type": "application/json"})
            assert 200 == answer.status_code, (name, answer.text)

            assert 408 == ask(host, port), (name, ask.__name__)
            answer = visitor.post(url, content=BODY, headers={"Content-Type": "application/json"})
            assert 200 == answer.status_code, (name, answer.text)
