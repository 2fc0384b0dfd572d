"""A visitor cannot imitate the ingress's own fields, not in the head, in trailers or in odd spellings."""

import socket
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

SHOP = """
    import modal

    app = modal.App("shop")

    @app.cls()
    class Shop:
        @modal.fastapi_endpoint(method="POST", docs=False)
        async def ping(self):
            return "public"

        @modal.fastapi_endpoint(method="POST", requires_proxy_auth=True, docs=False)
        async def wipe(self):
            return "PRIVATE"

    @app.function()
    @modal.wsgi_app()
    def seen():
        import json

        def plain(environ, start):
            environ["wsgi.input"].read()
            start("200 OK", [("Content-Type", "application/json")])
            told = {k: v for k, v in environ.items() if isinstance(v, str)}
            return [json.dumps({**told, "input": modal.current_input_id()}).encode()]

        return plain

    @app.function()
    @modal.asgi_app()
    def heard():
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def told(request):
            await request.body()
            return JSONResponse({
                "REMOTE_ADDR": request.client.host,
                "wsgi.url_scheme": request.url.scheme,
                "input": modal.current_input_id(),
                **{k: v for k, v in request.headers.items()},
            })

        return Starlette(routes=[Route("/", told, methods=["GET", "POST"])])
"""
FORGED = {
    "X-Homeport-Method": "wipe",
    "X_Homeport_Method": "wipe",
    "X-Homeport_Method": "wipe",
    "X-Request-Id": "forged",
    "X_Request_Id": "forged",
    "X-Forwarded-For": "6.6.6.6",
    "X_Forwarded_For": "6.6.6.6",
    "x-forwarded_proto": "forged",
}


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """Deployed once for the file."""
    from tests.journeys.conftest import Terminal

    terminal = Terminal(tmp_path_factory.mktemp("home"))
    script = tmp_path_factory.mktemp("project") / "script.py"
    import textwrap

    script.write_text(textwrap.dedent(SHOP))
    yield terminal.deploy(script)
    terminal.close()


def test_no_header_chooses_the_web_method(urls):
    answer = httpx.post(urls["Shop.ping"], headers=FORGED, timeout=60, trust_env=False)

    assert (200, '"public"') == (answer.status_code, answer.text)
    assert 401 == httpx.post(urls["Shop.wipe"], headers=FORGED, timeout=60).status_code


def test_no_trailer_chooses_the_web_method_over_http_1(urls):
    place = urlsplit(urls["Shop.ping"])
    for _ in range(3):
        with socket.create_connection((place.hostname, place.port), timeout=60) as wire:
            wire.sendall(
                f"POST / HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
                "Transfer-Encoding: chunked\r\nTrailer: X-Homeport-Method\r\n\r\n"
                "0\r\nX-Homeport-Method: wipe\r\nX_Homeport_Method: wipe\r\n\r\n".encode()
            )
            with wire.makefile("rb") as answer:
                told = answer.read()

        assert b'"public"' in told


def test_no_trailer_chooses_the_web_method_over_http_2(urls):
    place = urlsplit(urls["Shop.ping"])
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    with socket.create_connection((place.hostname, place.port), timeout=60) as wire:
        http.initiate_connection()
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", place.netloc),
        ]
        http.send_headers(1, head)
        http.send_data(1, b"x")
        http.send_headers(1, [("x-homeport-method", "wipe")], end_stream=True)
        wire.sendall(http.data_to_send())
        told, ended = b"", False
        while not ended:
            data = wire.recv(65536)
            assert data
            for event in http.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    told += event.data
                ended = ended or isinstance(event, h2.events.StreamEnded)

    assert b"PRIVATE" not in told


@pytest.mark.parametrize("tag", ["seen", "heard"])
def test_no_header_forges_the_client_the_scheme_or_the_request_id(urls, tag):
    answer = httpx.get(urls[tag], headers=FORGED, timeout=60, trust_env=False)
    told = answer.json()

    assert ("127.0.0.1", "http") == (told["REMOTE_ADDR"], told["wsgi.url_scheme"])
    assert f"in-{answer.headers['x-request-id']}" == told["input"]
    assert "6.6.6.6" not in answer.text
    assert "forged" not in answer.text
