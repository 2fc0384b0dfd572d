"""`web_server`: any program on a port, one container at a time, and only its own traffic."""

import contextlib
import random
import socket
import threading

import httpx
import pytest
from websockets.sync.client import connect

from tests.waiting import wait_for

SERVER = """
import subprocess, sys
import modal

app = modal.App("{app}")

SERVER = '''
from aiohttp import web

async def answer(request):
    body = await request.read()
    return web.json_response(dict(
        version={version}, path=request.raw_path, method=request.method, body=len(body),
        headers=sorted(key.lower() for key in request.headers),
    ))

async def chat(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data[::-1])
    return socket

async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for n in range(3):
        await response.write(b"%d" % n)
    return response

app = web.Application()
app.router.add_get("/ws", chat)
app.router.add_get("/stream", stream)
app.router.add_route("*", "/{{tail:.*}}", answer)
web.run_app(app, host="127.0.0.1", port={port}, print=None)
'''

@app.function()
@modal.concurrent(max_inputs=20)
@modal.web_server({port}, startup_timeout=30)
def serve():
    subprocess.Popen([sys.executable, "-c", SERVER])
"""


@pytest.fixture
def port() -> int:
    """A free port outside the range from which the kernel picks ports."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def script(port: int, *, app: str = "any", version: int = 1) -> str:
    return SERVER.format(port=port, app=app, version=version)


def test_bytes_pass_unchanged_whatever_they_are(terminal, write, visitor, port):
    url = terminal.deploy(write(script(port)))["serve"]
    plain = visitor.get(f"{url}/a%2Fb?c=%20d").json()
    with_body = visitor.request("GET", url, content=b"x" * 1000).json()

    assert "/a%2Fb?c=%20d" == plain["path"]
    assert ("GET", 1000) == (with_body["method"], with_body["body"])
    bare = httpx.Request("GET", url, headers={"Host": "x"})
    assert "accept-encoding" not in visitor.send(bare).json()["headers"]
    assert b"012" == visitor.get(f"{url}/stream").content
    with connect(url.replace("http", "ws") + "/ws", proxy=None) as chat:
        chat.send("quay")
        assert "yauq" == chat.recv()


def test_a_new_version_takes_the_port_over_and_nobody_sees_a_failure(terminal, write, port):
    url = terminal.deploy(write(script(port)))["serve"]
    stop, seen, failures = threading.Event(), set(), []

    def probe():
        while not stop.is_set():
            try:
                answer = httpx.get(url, timeout=60, trust_env=False)
                seen.add(answer.raise_for_status().json()["version"])
            except httpx.HTTPError as error:
                failures.append(repr(error))

    probes = [threading.Thread(target=probe) for _ in range(2)]
    for thread in probes:
        thread.start()
    try:
        terminal.deploy(write(script(port, version=2)))
        wait_for(lambda: 2 in seen or failures, "the new version")
    finally:
        stop.set()
        for thread in probes:
            thread.join()

    assert [] == failures
    assert {1, 2} == seen


def test_without_networks_another_app_cannot_have_the_port(terminal, write, visitor, port):
    terminal.environ["HOMEPORT_ISOLATION"] = "off"
    url = terminal.deploy(write(script(port)))["serve"]
    done = terminal.run("deploy", write(script(port, app="other"), "other.py"), check=False)

    assert 1 == done.returncode
    assert f"port {port} belongs to a `web_server` of the app `any`" in done.stderr
    assert 1 == visitor.get(url).json()["version"]


def test_without_networks_a_port_of_a_program_outside_is_a_clear_error(terminal, write):
    terminal.environ["HOMEPORT_ISOLATION"] = "off"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = terminal.run("deploy", write(script(port)), check=False)

    assert 1 == done.returncode
    assert f"port {port} is in use by a program outside this container" in done.stderr
    assert [] == terminal.json("app", "list")


def test_a_program_that_never_listens_fails_the_deploy_in_time(terminal, write, port):
    text = script(port).replace('[sys.executable, "-c", SERVER]', '["sleep", "60"]')
    text = text.replace("startup_timeout=30", "startup_timeout=0.5")
    done = terminal.run("deploy", write(text), check=False)

    assert 1 == done.returncode
    assert f"Waited too long for port {port} to start accepting connections" in done.stderr


def test_a_program_that_ends_at_once_fails_the_deploy_at_once(terminal, write, port):
    done = terminal.run(
        "deploy", write(script(port).replace("from aiohttp", "from nowhere")), check=False
    )

    assert 1 == done.returncode
    assert f"has ended before it listened on port {port}" in done.stderr
    assert "No module named 'nowhere'" in done.stderr


def test_a_program_that_ends_is_started_again(terminal, write, visitor, port):
    url = terminal.deploy(write(script(port)))["serve"]
    assert 1 == visitor.get(url).json()["version"]
    (container,) = terminal.json("container", "list")
    servers = terminal.processes(f"port={port}")
    assert servers
    for process in servers:
        process.kill()

    again = httpx.get(url, timeout=60, trust_env=False)
    assert 1 == again.json()["version"]
    wait_for(
        lambda: [container["id"]] != [c["id"] for c in terminal.containers()],
        "another container",
    )
