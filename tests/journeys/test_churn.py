"""Change after change: nobody sees a failure, and nothing is left behind."""

import threading

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests import trees
from tests.waiting import wait_for

CHURN = """
    import modal

    app = modal.App("churn")
    VERSION = 1

    async def web(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            for _ in range(3):
                await receive()
                await send({"type": "websocket.send", "text": str(VERSION)})
            await send({"type": "websocket.close", "code": 1000})
            return
        import asyncio
        stream = scope["path"] == "/events"
        kind = b"text/event-stream" if stream else b"text/plain"
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", kind)]})
        for _ in range(5 if stream else 1):
            await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % VERSION,
                        "more_body": True})
            await asyncio.sleep(0.05 if stream else 0)
        await send({"type": "http.response.body", "body": b"data: end\\n\\n"})

    @app.function()
    @modal.concurrent(max_inputs=20)
    @modal.asgi_app()
    def whole():
        return web
"""
ROUNDS = 6
PAUSE_S = 0.03  # between two questions of one stranger


class Probes:
    """Strangers who ask all the time: plainly, for a stream, over a WebSocket."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(ask,))
            for ask in (self._plain, self._kept, self._events, self._chat)
        ]
        self._client = httpx.Client(timeout=60, trust_env=False)
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_args):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _run(self, ask) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                ask()
                self.counts[ask.__name__] = self.counts.get(ask.__name__, 0) + 1
            except (httpx.HTTPError, ConnectionClosed, AssertionError, OSError) as error:
                self.failures.append(f"{ask.__name__}: {error!r}")

    def _plain(self) -> None:
        httpx.get(self._url, timeout=60, trust_env=False).raise_for_status()

    def _kept(self) -> None:
        self._client.get(self._url).raise_for_status()

    def _events(self) -> None:
        told = httpx.get(f"{self._url}/events", timeout=60, trust_env=False).raise_for_status()
        assert told.text.endswith("data: end\n\n")
        assert 6 == told.text.count("data: ")

    def _chat(self) -> None:
        with connect(self._url.replace("http", "ws") + "/ws", proxy=None) as chat:
            for _ in range(3):
                chat.send("x")
                assert chat.recv().isdigit()


@pytest.mark.timeout(600)  # hundreds of starts, or dozens of commands
def test_deploys_and_rollbacks_one_after_the_other_fail_nobody_and_tear_no_stream(terminal, write):
    url = terminal.deploy(write(CHURN))["whole"]
    with Probes(url) as probes:
        for number in range(ROUNDS):
            script = write(CHURN.replace("VERSION = 1", f"VERSION = {number + 2}"))
            terminal.run("deploy", script, "--strategy", "rolling" if number % 5 else "recreate")
        for _ in range(ROUNDS):
            terminal.run("app", "rollback", "churn")

    assert [] == probes.failures
    assert {"_plain", "_kept", "_events", "_chat"} == set(probes.counts)
    assert 2 * ROUNDS + 1 == terminal.json("app", "list")[0]["version"]
    assert 10 == len(terminal.json("app", "history", "churn"))  # no more are kept


ONCE = """
    import modal

    app = modal.App("once")

    async def web(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"once"})

    @app.function(single_use_containers=True, scaledown_window=2)
    @modal.asgi_app()
    def whole():
        return web
"""


@pytest.mark.timeout(600)  # hundreds of starts, or dozens of commands
@pytest.mark.soak
def test_two_hundred_cold_starts_leave_nothing_behind(terminal, write):
    url = terminal.deploy(write(ONCE))["whole"]
    server = psutil.Process(terminal.status()["pid"])
    ingress = psutil.Process(terminal.status()["ingress_pid"])

    def visit(count):
        for _ in range(count):
            assert 200 == httpx.get(url, timeout=60, trust_env=False).status_code
        wait_for(lambda: not terminal.json("container", "list"), "no container")

    def held():
        sockets = trees.sockets(terminal.home)
        directories = list((terminal.home / "run" / "containers").iterdir())
        return (
            server.num_fds(),
            ingress.num_fds(),
            len(terminal.processes()),
            len(sockets),
            len(directories),
        )

    visit(20)
    base, base_mib = wait_for(held, "the base line"), server.memory_info().rss / 2**20
    visit(200)
    wait_for(lambda: all(a <= b + 2 for a, b in zip(held(), base, strict=True)), f"{base} again")

    assert server.memory_info().rss / 2**20 - base_mib < 20
