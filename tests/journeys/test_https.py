"""HTTPS by a local CA: from `deploy` to a browser's request, over restarts."""

import os
import signal
import socket
import ssl
from urllib.parse import urlsplit

import httpx
import pytest

from tests import http2
from tests.waiting import wait_for

APP = """
    import modal
    from fastapi import FastAPI, Request, WebSocket

    app = modal.App("shop")
    web = FastAPI()

    @web.get("/")
    async def root(request: Request):
        return {"url": str(request.url), "mine": endpoint.get_web_url()}

    @web.websocket("/ws")
    async def echo(socket: WebSocket):
        await socket.accept()
        await socket.send_text(str(socket.url) + " " + await socket.receive_text())
        await socket.close()

    @web.get("/inside")
    async def inside():  # programs in the container trust the CA of this homeport
        import subprocess
        import urllib.request
        import aiohttp
        import httpx
        import requests
        url = endpoint.get_web_url()
        found = {"requests": requests.get(url).status_code, "httpx": httpx.get(url).status_code}
        with urllib.request.urlopen(url) as answer:
            found["urllib"] = answer.status
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found["aiohttp"] = answer.status
        told = subprocess.run(["curl", "-sS", url], capture_output=True, text=True)
        return {**found, "curl": told.stdout or told.stderr}

    @app.function(max_containers=2)
    @modal.asgi_app(custom_domains=["shop.test"])
    def endpoint():
        return web
"""


class ToHere(httpx.HTTPTransport):
    """Leads every host to this machine, as a browser leads `*.localhost`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, http2=True)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host
        request.extensions = {**request.extensions, "sni_hostname": name}
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


@pytest.fixture
def secure(terminal):
    """A terminal whose homeport has TLS by a local CA."""
    terminal.environ |= {"HOMEPORT_TLS": "local", "HOMEPORT_HTTPS_PORT": "0"}
    return terminal


def test_a_deploy_answers_by_https_at_once_and_after_restarts(secure, write):
    told = secure.json("deploy", write(APP))["endpoints"][0]
    url, status = told["url"], secure.status()
    ca = secure.run("trust", "--pem").stdout
    context = ssl.create_default_context(cadata=ca)
    plain = f"http://127.0.0.1:{status['http_port']}"
    host = urlsplit(url).netloc
    with httpx.Client(transport=ToHere(context), timeout=60) as browser:
        first = browser.get(f"{url}/?a=1")
        os.kill(status["pid"], signal.SIGKILL)
        alone = browser.get(f"{url}/")
    with httpx.Client(transport=ToHere(context), timeout=60) as browser:  # another certificate
        custom = browser.get(f"https://shop.test:{status['https_port']}/")
    secure.run("up")
    with httpx.Client(transport=ToHere(context), timeout=60) as browser:
        after = browser.get(f"{url}/")
    moved = httpx.get(f"{plain}/x?y=1", headers={"Host": host}, trust_env=False)

    assert url == f"https://ada--shop-endpoint.localhost:{status['https_port']}"
    assert "HTTP/2" == first.http_version
    assert {"url": f"{url}/?a=1", "mine": url} == first.json()
    assert [200] * 3 == [answer.status_code for answer in (custom, alone, after)]
    assert (308, f"{url}/x?y=1") == (moved.status_code, moved.headers["location"])
    assert status["https_port"] == secure.status()["https_port"]
    assert "strict-transport-security" not in first.headers
    assert f"and {status['https_port']} (HTTPS)" in secure.run("status").stdout
    assert "update-ca-certificates" in secure.run("trust").stdout
    assert [0o600] * 2 == [
        path.stat().st_mode & 0o777 for path in sorted((secure.home / "local-ca").iterdir())
    ]
    with httpx.Client(transport=ToHere(context), timeout=60) as browser:
        inside = browser.get(f"{url}/inside").json()
    assert url in inside.pop("curl")
    assert dict.fromkeys(("requests", "httpx", "urllib", "aiohttp"), 200) == inside
    listed = {each["host"]: each for each in secure.json("certificate", "list")}
    assert {"localhost", "shop.test", host.partition(":")[0]} <= set(listed)
    assert {"valid"} == {each["state"] for each in listed.values()}
    _websocket(url, ssl.create_default_context(cadata=ca))  # httpx offers h2 with the other one


def _websocket(url: str, context: ssl.SSLContext) -> None:
    from websockets.sync.client import connect

    there = urlsplit(url)
    with (
        socket.create_connection(("127.0.0.1", there.port)) as wire,
        connect(
            f"wss://{there.netloc}/ws",
            sock=wire,
            ssl=context,
            server_hostname=there.hostname,
            proxy=None,
            open_timeout=60,  # a container may have to start
        ) as chat,
    ):
        chat.send("hello")

        assert f"wss://{there.netloc}/ws hello" == chat.recv()
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", there.port), timeout=60) as wire,
        context.wrap_socket(wire, server_hostname=there.hostname) as tls,
    ):
        told = http2.said(tls, "https", there.netloc, "/ws", "by h2")
        assert ("h2", f"wss://{there.netloc}/ws by h2") == (tls.selected_alpn_protocol(), told)


def test_files_are_used_and_renewed_and_without_one_the_host_answers_by_http(
    terminal, write, tmp_path
):
    from tests.certificates import Authority

    authority, files = Authority(), tmp_path / "tls"
    files.mkdir()
    terminal.environ |= {"HOMEPORT_TLS": "files", "HOMEPORT_HTTPS_PORT": "0"}
    terminal.environ |= {"HOMEPORT_TLS_FILES": str(files)}
    url = terminal.json("deploy", write(APP))["endpoints"][0]["url"]
    status, host = terminal.status(), urlsplit(url).hostname
    plain = httpx.get(
        f"http://127.0.0.1:{status['http_port']}/",
        headers={"Host": host},
        trust_env=False,
        timeout=60,
    )
    (files / "all.pem").write_bytes(authority.pem(host))

    def answer() -> httpx.Response | None:
        with httpx.Client(transport=ToHere(authority.context("h2")), timeout=60) as browser:
            try:
                return browser.get(f"{url}/")
            except httpx.TransportError:
                return None

    secure = wait_for(answer, "the certificate of the file")

    assert 200 == plain.status_code
    assert "max-age=31536000" == secure.headers["strict-transport-security"]
    assert f"{url}/" == secure.json()["url"]
