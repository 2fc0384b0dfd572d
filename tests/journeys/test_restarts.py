"""A killed process is replaced, and the others go on."""

import contextlib
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from tests.waiting import wait_for

APP = """
    import asyncio, os
    import modal
    from fastapi import FastAPI, WebSocket
    from starlette.responses import StreamingResponse

    app = modal.App("steady")
    web = FastAPI()

    @web.get("/")
    async def version():
        return {"version": 1, "container": os.environ["MODAL_TASK_ID"]}

    @web.get("/stream")
    async def stream():
        async def beats():
            while True:
                yield b"beat\\n"
                await asyncio.sleep(0.02)
        return StreamingResponse(beats())

    @web.websocket("/ws")
    async def echo(socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    @app.function(min_containers=1)
    @modal.concurrent(max_inputs=50)
    @modal.asgi_app()
    def whole():
        return web
"""


#: How long a request waits for a control plane that has ended: see `PATIENCE` in ingress/park.lua.
PARKS_AGAIN_S = 5.0


class Prober:
    """Sends one request after the other, each on a new connection; records each answer that is not 200."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.good = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self.good, "the first answer")
        return self

    def __exit__(self, *_args) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int = 20) -> None:
        """Return after `count` more answers."""
        goal = self.good + count
        wait_for(lambda: self.good >= goal or self.failures, "more answers")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                httpx.get(self._url, timeout=60, trust_env=False).raise_for_status()
                self.good += 1
            except httpx.HTTPError as error:
                self.failures.append(repr(error))


@pytest.fixture
def url(terminal, write) -> str:
    return terminal.deploy(write(APP))["whole"]


def haproxies(terminal) -> list[psutil.Process]:
    return [p for p in terminal.processes() if "haproxy" in p.name()]


def test_a_killed_control_plane_is_not_missed_and_its_successor_takes_everything_over(
    terminal, url
):
    before = httpx.get(url, trust_env=False).json()["container"]
    with (
        Prober(url) as prober,
        httpx.stream("GET", f"{url}/stream", timeout=60, trust_env=False) as stream,
        connect(url.replace("http", "ws") + "/ws", proxy=None) as chat,
    ):
        beats = stream.iter_raw()
        for _ in range(2):  # the second one takes over from a successor
            psutil.Process(terminal.status()["pid"]).kill()
            prober.more()
            terminal.run("up")
            prober.more()
            next(beats)
            chat.send("still there")
            assert "still there" == chat.recv()

    assert [] == prober.failures
    assert before == httpx.get(url, trust_env=False).json()["container"]
    (app,) = terminal.status()["apps"]
    assert [before] == [container["id"] for container in app["containers"]]
    assert url == app["endpoints"][0]["local_url"]
    wait_for(lambda: 1 == len(haproxies(terminal)), "the end of the older ingresses")
    terminal.run("down")
    assert [] == terminal.processes()


def test_a_cold_request_survives_a_restart_of_the_control_plane(terminal, write, tmp_path):
    terminal.environ["HOMEPORT_ISOLATION"] = "off"  # so that the containers see this file
    go = tmp_path / "go"
    go.touch()
    script = APP.replace("min_containers=1", "scaledown_window=2").replace(
        "app = modal",
        "import time\n"
        f"    while not (modal.is_local() or os.path.exists({str(go)!r})): time.sleep(0.01)\n"
        "    app = modal",
    )
    url = terminal.deploy(write(script))["whole"]
    for _ in range(6):  # a busy machine may restart it too slowly
        wait_for(lambda: not terminal.containers(), "no container")
        go.unlink()
        with ThreadPoolExecutor(1) as pool:
            visit = pool.submit(httpx.get, url, timeout=60, trust_env=False)
            wait_for(lambda: terminal.containers(), "a container that starts")
            killed_at = time.monotonic()
            psutil.Process(terminal.status()["pid"]).kill()
            terminal.run("up")
            restart_s = time.monotonic() - killed_at
            go.touch()
        if restart_s < PARKS_AGAIN_S:
            break
    else:
        pytest.fail(f"a restart takes {restart_s:.1f} s on this machine")

    assert 200 == visit.result().status_code
    assert len(terminal.json("container", "list")) <= 1


def test_a_killed_ingress_is_replaced_with_the_same_servers(terminal, url):
    with Prober(url) as prober:
        for _ in range(3):
            old = terminal.status()["ingress_pid"]
            os.kill(old, signal.SIGKILL)
            wait_for(
                lambda o=old: o != terminal.ask("/v1/status")["ingress_pid"], "another ingress"
            )
            prober.more()

    # Only the requests inside it are lost.
    assert len(prober.failures) <= 3


def test_after_a_reboot_up_brings_deployed_apps_back(terminal, url):
    for process in terminal.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended with one before
            process.kill()
    psutil.wait_procs(terminal.processes(), timeout=30)
    told = terminal.run("up").stdout

    assert url in told
    assert 1 == httpx.get(url, timeout=60, trust_env=False).json()["version"]


def test_a_kill_at_any_point_of_a_deploy_leaves_the_old_version_or_the_new_one(
    terminal, write, url
):
    chance = random.Random(7)
    for number in range(2, 6):
        script = write(APP.replace('"version": 1', f'"version": {number}'))
        deploying = terminal.start("deploy", script)
        wait_for(
            lambda d=deploying: (
                d.process.poll() is not None or time.sleep(chance.uniform(0, 2.5)) is None
            ),
            "a moment",
        )
        psutil.Process(terminal.status()["pid"]).kill()
        deploying.end()
        terminal.run("up")
        served = {httpx.get(url, timeout=60, trust_env=False).json()["version"] for _ in range(5)}
        (app,) = terminal.status()["apps"]
        current = [r["version"] for r in terminal.json("app", "history", "steady") if r["current"]]

        assert 1 == len(served)
        assert [app["version"]] == current
        assert {max(r["version"] for r in terminal.json("app", "history", "steady"))} == {
            app["version"]
        }

    def only_what_is_listed() -> bool:  # containers of the version before may still be ending
        listed = {container["pid"] for container in terminal.containers()}
        return listed == {process.pid for process in terminal.processes("homeport.runner ")}

    wait_for(only_what_is_listed, "the processes of the listed containers alone")
