"""Captured requests of every kind of endpoint, and one that is sent again."""

import base64
import json

import httpx

from tests.waiting import wait_for

APP = """
    import os
    import modal
    from fastapi import FastAPI, Request, Response
    from flask import Flask, request

    app = modal.App("kept")
    secret = modal.Secret.from_dict({"KEY": "hidden-value-1"})
    web = Flask("x")
    api = FastAPI()
    VERSION = 1

    @web.post("/<name>")
    def index(name):
        return {"told": request.get_json(), "name": name}, {"Set-Cookie": "a=1"}

    @api.post("/{name}")
    async def post(name: str, got: Request, answer: Response):
        answer.set_cookie("a", "1")
        return {"told": await got.json(), "name": name, "key": os.environ["KEY"], "version": VERSION}

    @api.get("/seen")
    def seen(got: Request):
        return [name for name in got.headers if "homeport" in name]

    @app.function()
    @modal.wsgi_app()
    def wsgi():
        return web

    @app.function(secrets=[secret])
    @modal.asgi_app()
    def asgi():
        return api

    @app.function()
    @modal.web_server(8123)
    def program():
        import subprocess, sys, textwrap
        code = '''
        import http.server, json
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_POST(self):
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                ours = [name for name in self.headers if "homeport" in name.lower()]
                body = json.dumps({"told": told, "ours": ours}).encode()
                self.send_response(200)
                self.send_header("Set-Cookie", "a=1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
        http.server.ThreadingHTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
        '''
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
"""
FIELDS = {"Authorization": "Bearer mine", "Cookie": "b=2", "X-Api-Key": "k", "X-Shop": "s"}


def test_requests_of_every_kind_are_captured_without_credentials_and_sent_again(terminal, write):
    script = write(APP)
    urls = terminal.deploy(script)
    for tag in urls:
        terminal.run("capture", "start", f"kept.{tag}", "--requests", "3", "--max-body", "1KiB")
    answers = {
        tag: httpx.post(
            f"{url}/cart?n=1&token=t", json={"a": tag}, headers=FIELDS, timeout=60, trust_env=False
        )
        for tag, url in urls.items()
    }
    for tag, answer in answers.items():
        request = answer.headers["x-request-id"]
        found = wait_for(
            lambda request=request: (
                terminal.run("capture", "show", request, "--json", check=False).stdout
            ),
            f"the captured request of {tag}",
        )
        captured = json.loads(found)["captured"]
        kept, answered = captured["request"], captured["response"]
        assert (tag, "POST", 200) == (captured["tag"], captured["method"], captured["status"])
        assert "/cart?n=1&token=***" == captured["target"]
        assert {"authorization", "cookie", "x-api-key", "set-cookie"} <= set(captured["removed"])
        names = {name.lower(): value for name, value in kept["fields"]}
        assert "s" == names["x-shop"]
        assert not {"authorization", "cookie", "x-api-key", "x-homeport-method"} & set(names)
        assert {"a": tag} == json.loads(bytes_of(kept["body"]))
        assert {"a": tag} == json.loads(bytes_of(answered["body"]))["told"]
    assert [] == answers["program"].json()["ours"]
    assert "***" == json.loads(bytes_of(captured_of(terminal, answers["asgi"])["body"]))["key"]
    assert [] == httpx.get(f"{urls['asgi']}/seen", timeout=60, trust_env=False).json()

    files = list((terminal.home / "captures").glob("*.json"))
    assert {0o600} == {path.stat().st_mode & 0o777 for path in files}
    assert "hidden-value-1" not in "".join(path.read_text() for path in files)

    request = answers["asgi"].headers["x-request-id"]
    write(APP.replace("VERSION = 1", "VERSION = 2"))
    terminal.run("deploy", script)
    asked = terminal.run("request", "replay", request, check=False)
    assert "--yes" in asked.stderr
    told = terminal.run("request", "replay", request, "--yes").stdout
    assert '-  "version": 1' in told
    assert '+  "version": 2' in told
    told = terminal.run("request", "replay", request, "--yes", "--to", "v1").stdout
    assert '"version"' not in told.replace('   "version"', "")

    actions = {each["action"] for each in terminal.json("audit")}
    assert {"capture start", "capture show"} <= actions
    terminal.run("app", "stop", "kept", "--yes")
    assert [] == list((terminal.home / "captures").glob("*.json"))


def bytes_of(told: dict) -> bytes:
    return base64.b64decode(told["base64"])


def captured_of(terminal, answer: httpx.Response) -> dict:
    found = terminal.json("capture", "show", answer.headers["x-request-id"])
    return found["captured"]["response"]


MIRRORED = """
    import modal

    app = modal.App("mirrored")

    @app.function()
    @modal.fastapi_endpoint()
    def price(n: int = 1):
        return {"n": n, "price": 3 * n}
"""


def test_a_session_gets_copies_of_safe_requests_and_says_how_its_answers_differ(terminal, write):
    script = write(MIRRORED)
    url = terminal.deploy(script)["price"]
    write(MIRRORED.replace("3 * n", "4 * n if n > 1 else 3 * n"))
    session = terminal.serve(script, "--mirror", "mirrored=100%")
    asked = terminal.json("capture", "list")["running"]
    wait_for(lambda: asked or terminal.json("capture", "list")["running"], "the mirror")

    def get(target: str, **fields: str) -> None:
        assert (
            200
            == httpx.get(f"{url}/{target}", headers=fields, timeout=60, trust_env=False).status_code
        )

    get("?n=5", cookie="a=1")
    get("?n=6", authorization="Bearer x")
    get("?n=7&token=x")
    get("?n=1")
    get("?n=2")
    session.wait_for(r"mirror  GET /\?n=2: body, \d+ ms -> \d+ ms")
    assert 1 == session.output.count("mirror  ")
    assert [] == list((terminal.home / "captures").glob("*.json"))

    session.process.kill()
    session.process.wait()
    wait_for(lambda: not terminal.json("capture", "list")["running"], "the mirror's end")
    refused = terminal.run("serve", script, "--mirror", "nobody=5%", check=False)
    assert 1 == refused.returncode
    assert "the app `nobody` is not deployed" in refused.stderr
