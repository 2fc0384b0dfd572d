"""Server classes and tunnels, on the real server: any number of them on one port, sessions, and their ends."""

import os
import signal
import socket
import threading
from urllib.parse import urlsplit

import httpx
import pytest

from tests import isolation
from tests.waiting import wait_for

PROGRAM = """
import http.server, json, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        told = dict(name=sys.argv[1], container=os.environ["MODAL_TASK_ID"], path=self.path)
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Page).serve_forever()
"""
APP = """
import subprocess, sys, threading
import modal
import modal.experimental

app = modal.App("sites")
PROGRAM = PROGRAM_TEXT

def begin(name, port=8000):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, name, str(port)])

@app.server(unauthenticated=True, min_containers=2, startup_timeout=60)
class Files:
    @modal.enter()
    def start(self):
        self.program = begin("files VERSION")

    @modal.exit()
    def stop(self):
        print("the hook finds the program", self.program.poll())
        self.program.terminate()
        print("and it ends", self.program.wait())

@app.server()
class Private:
    @modal.enter()
    async def start(self):
        import asyncio, functools
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, begin, "private")

@app.cls(max_containers=1)
@modal.experimental.http_server(port=8000, proxy_regions=["us-east"], startup_timeout=60)
@modal.concurrent(target_inputs=10)
class Old:
    @modal.enter()
    def start(self):
        begin("old")

@app.cls()
@modal.concurrent(max_inputs=10)
class Desk:
    size: int = modal.parameter(default=2)

    @modal.web_server(8000, startup_timeout=60)
    def site(self):
        begin(f"site of {self.size}")

    @modal.web_server(8001, startup_timeout=60)
    def admin(self):
        begin("admin", 8001)

    @modal.method()
    def times(self, n):
        import os, urllib.request
        with urllib.request.urlopen("http://127.0.0.1:8000/") as answer:
            return n * self.size, os.environ["MODAL_TASK_ID"], answer.read().decode()

    @modal.method()
    def count(self, to):
        yield from range(to * self.size)

@app.function()
@modal.fastapi_endpoint()
def ask(size: int):
    desk = Desk(size=size)
    mine, spawned = desk.times.remote(5), desk.times.spawn(6).get()[0]
    return [*mine, spawned, [*desk.count.remote_gen(2)], [*desk.times.map([1, 2])][1][0]]

@app.cls(max_containers=1, min_containers=1)
@modal.concurrent(max_inputs=10)
class Tunnels:
    @modal.enter()
    def start(self):
        import http.server

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"tunnel")

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.port = server.server_port
        self.context = modal.forward(8001)
        self.early = self.context.__enter__()

    @modal.fastapi_endpoint()
    def open(self, port: int = 0):
        self.context.__exit__(None, None, None)
        self.context = modal.forward(port or self.port)
        return [self.early.url, self.context.__enter__().url, Files.get_url()]

    @modal.fastapi_endpoint()
    def close(self):
        self.context.__exit__(None, None, None)
"""


def script(version: int) -> str:
    return APP.replace("PROGRAM_TEXT", repr(PROGRAM)).replace("VERSION", str(version))


@pytest.fixture
def isolated(terminal):
    isolation.needed("network")
    terminal.environ["HOMEPORT_ISOLATION"] = "on"
    return terminal


def by_host(visitor: httpx.Client, url: str) -> httpx.Response:
    """Ask a URL whose name this machine's resolver may not know."""
    parts = urlsplit(url)
    return visitor.get(f"http://127.0.0.1:{parts.port}/", headers={"Host": parts.netloc})


def test_a_server_class_and_a_tunnel_answer_by_their_urls(isolated, write, visitor):
    urls = isolated.deploy(write(script(1)))
    _they_share_a_port(isolated, visitor, urls)
    _sessions_stay(visitor, urls["Files"])
    _a_class_has_programs_and_methods(visitor, urls)
    _a_tunnel_opens_and_closes(visitor, urls)
    _a_tunnel_ends_with_its_container(isolated, visitor, urls)
    _a_new_version_takes_over(isolated, write, urls["Files"])
    _tunnels_end_with_the_server(isolated, visitor, urls)


def _they_share_a_port(isolated, visitor, urls):
    assert "files 1" == visitor.get(f"{urls['Files']}/x").json()["name"]
    assert "old" == visitor.get(urls["Old"]).json()["name"]
    assert 401 == visitor.get(urls["Private"]).status_code
    token = isolated.json("proxy-token", "create")
    fields = {name: token[name] for name in ("Modal-Key", "Modal-Secret")}
    assert "private" == visitor.get(urls["Private"], headers=fields).json()["name"]


def _sessions_stay(visitor, url):
    def container(session: str) -> str:
        return visitor.get(url, headers={"Modal-Session-ID": session}).json()["container"]

    homes = {f"s{n}": container(f"s{n}") for n in range(8)}
    assert 2 == len(set(homes.values()))
    for _ in range(3):
        assert homes == {session: container(session) for session in homes}


def _a_class_has_programs_and_methods(visitor, urls):
    assert "admin" == visitor.get(urls["Desk.admin"]).json()["name"]
    for size in (2, 3):
        told = visitor.get(urls["Desk.site"], params={"size": size}).json()
        product, container, page, spawned, counted, mapped = visitor.get(
            urls["ask"], params={"size": size}
        ).json()

        assert (f"site of {size}", f"/?size={size}") == (told["name"], told["path"])
        assert told["container"] == container  # one container has the program and the methods
        assert f'"name": "site of {size}"' in page
        assert (5 * size, 6 * size, [*range(2 * size)]) == (product, spawned, counted)
        assert 2 * size == mapped


def _a_tunnel_opens_and_closes(visitor, urls):
    early, url, files = visitor.get(urls["Tunnels.open"]).json()

    assert "tunnel" == by_host(visitor, url).text
    assert 404 == by_host(visitor, early).status_code  # it was closed
    assert "files 1" == by_host(visitor, files).json()["name"]
    visitor.get(urls["Tunnels.close"])
    assert 404 == by_host(visitor, url).status_code
    with socket.create_server(("127.0.0.1", 0)) as mine:  # of a program outside the container
        port = mine.getsockname()[1]
        _, url, _ = visitor.get(urls["Tunnels.open"], params={"port": port}).json()
        assert 502 == by_host(visitor, url).status_code


def _a_tunnel_ends_with_its_container(isolated, visitor, urls):
    _, url, _ = visitor.get(urls["Tunnels.open"]).json()
    assert "tunnel" == by_host(visitor, url).text
    (pid,) = (c["pid"] for c in isolated.containers() if c["function"] == "Tunnels.*")
    os.kill(pid, signal.SIGKILL)

    wait_for(lambda: 404 == by_host(visitor, url).status_code, "the tunnel to go")


def _a_new_version_takes_over(isolated, write, url):
    stop, seen, failures = threading.Event(), set(), []

    def probe():
        while not stop.is_set():
            try:
                answer = httpx.get(url, timeout=60, trust_env=False)
                seen.add(answer.raise_for_status().json()["name"])
            except httpx.HTTPError as error:
                failures.append(repr(error))

    probing = threading.Thread(target=probe)
    probing.start()
    try:
        isolated.deploy(write(script(2)))
        wait_for(lambda: "files 2" in seen or failures, "the new version")
    finally:
        stop.set()
        probing.join()

    assert [] == failures
    assert {"files 1", "files 2"} == seen

    def has_ended() -> bool:
        log = isolated.run("app", "logs", "sites").stdout
        # The exit hook comes before the end of the programs.
        return "the hook finds the program None" in log and "and it ends -15" in log

    wait_for(has_ended, "the exit hooks")


def _tunnels_end_with_the_server(isolated, visitor, urls):
    _, url, _ = visitor.get(urls["Tunnels.open"]).json()
    os.kill(isolated.status()["pid"], signal.SIGKILL)
    assert "tunnel" == by_host(visitor, url).text  # nothing of Python is in its path
    isolated.run("up")

    assert 404 == by_host(visitor, url).status_code


def test_a_session_of_serve_follows_the_file(isolated, write):
    command = isolated.serve(write(script(1)))
    url = isolated.urls()["Files"]
    assert "files 1" == httpx.get(url, timeout=60, trust_env=False).json()["name"]
    write(script(2))

    def answers() -> bool:
        answer = httpx.get(url, timeout=60, trust_env=False)
        return answer.status_code == 200 and answer.json()["name"] == "files 2"

    wait_for(answers, "the new file")
    lines = len(command.lines)
    write(
        script(3)
        .replace("port=8000):", "port=9):")
        .replace("startup_timeout=60", "startup_timeout=1")
    )
    command.wait_for("port 8000", after=lines)
    command.interrupt()
