"""A real browser with `tls = local`: it refuses an endpoint, and accepts it after what `homeport trust` prints."""

import os
import subprocess
from urllib.parse import urlsplit

import pytest

from tests import chromium

APP = """
    import modal

    app = modal.App("page")

    async def web(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
            text = (await receive())["text"]
            await send({"type": "websocket.send", "text": f"{scope['scheme']} {text}"})
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            head = [(b"content-type", b"text/html")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"<title>a page</title>"})

    @app.function()
    @modal.asgi_app()
    def endpoint():
        return web
"""
CHAT = """
new Promise((answered, failed) => {
    const chat = new WebSocket("/ws")
    chat.onopen = () => chat.send("hello")
    chat.onmessage = message => answered(message.data)
    chat.onerror = () => failed("no WebSocket")
})
"""
PROTOCOL = "performance.getEntriesByType('navigation')[0].nextHopProtocol"


@pytest.mark.skipif(chromium.lacks() != "", reason=chromium.lacks())
def test_a_browser_accepts_the_local_ca_after_what_trust_prints(terminal, write, tmp_path):
    terminal.environ |= {"HOMEPORT_TLS": "local", "HOMEPORT_HTTPS_PORT": "0"}
    url = terminal.json("deploy", write(APP))["endpoints"][0]["url"]
    plain = f"http://{urlsplit(url).hostname}:{terminal.status()['http_port']}/x?y=1"
    home = tmp_path / "ada"
    home.mkdir()
    with chromium.running(home) as browser:
        stranger = browser.open(url)
    told = terminal.run("trust").stdout
    commands = told.partition("Chromium on Linux")[2].partition("Firefox")[0].splitlines()[1:]
    environ = {**os.environ, "HOME": str(home)}
    subprocess.run(["sh", "-ec", "\n".join(commands)], check=True, env=environ)
    with chromium.running(home) as browser:
        moved = browser.open(plain)
        found = [browser.ask(what) for what in ("location.href", "document.title", PROTOCOL, CHAT)]

    assert "net::ERR_CERT_AUTHORITY_INVALID" == stranger
    assert "" == moved
    assert [f"{url}/x?y=1", "a page", "h2", "wss hello"] == found
