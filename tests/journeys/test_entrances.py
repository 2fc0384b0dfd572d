"""Visitors who come in at another machine than the first one, also while parts of both machines are killed."""

import http.client
import threading
import time
import urllib.parse
from typing import Self

import pytest

from tests import processes
from tests.journeys import machines
from tests.namespaces import Machine
from tests.waiting import PATIENCE_S, wait_for

GIVES_UP_S = 40.0  # of a visitor: longer than a connection waits at an entrance
SCRIPT = """
import asyncio

import homeport
from fastapi import FastAPI, Request

app = homeport.App("shop")
web = FastAPI()
inside = 0


@web.get("/")
async def who(request: Request):
    return request.client.host


@web.get("/slow")
async def slow(seconds: float):
    global inside
    inside += 1
    await asyncio.sleep(seconds)
    return "slow"


@web.get("/inside")
async def count():
    return inside


@app.function(min_containers=1, max_containers=1)
@homeport.concurrent(max_inputs=20)
@homeport.asgi_app()
def shop():
    return web
"""


class Visitor:
    """Asks from one machine, at the address of another one."""

    def __init__(self, at: Machine, to: Machine, url: str) -> None:
        self._at, self._to, self._url = at, to, urllib.parse.urlsplit(url)
        self.failed: list[str] = []
        self.longest_s = 0.0
        self.count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_again_and_again)

    def ask(self, path: str = "/") -> str:
        """Return the answer to one request, by a connection of its own; raises if there is none."""
        with self._at.inside():
            connection = http.client.HTTPConnection(
                self._to.address, self._url.port, timeout=GIVES_UP_S
            )
            try:
                connection.request("GET", path, headers={"Host": self._url.netloc})
                response = connection.getresponse()
                text = response.read().decode().strip(chr(34))
            finally:
                connection.close()
        assert 200 == response.status, text
        return text

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self.count > 5, "answers")
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_S)

    def _ask_again_and_again(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self.ask()
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failed.append(f"{time.monotonic() - began:.2f} s: {error!r}")
            self.count += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)

    def more(self) -> None:
        """Wait for requests that begin from now on."""
        wait_for(lambda count=self.count: self.count > count + 5, "more answers")


@pytest.fixture
def cluster(tmp_path):
    with machines.cluster(tmp_path / "cluster", {"HOMEPORT_HOST": "0.0.0.0"}) as made:
        yield made


def test_visitors_come_in_at_every_machine_and_wait_while_what_leads_them_on_is_away(
    cluster, tmp_path
):
    b, c = cluster.join("b"), cluster.join("c", {"HOMEPORT_ENTRANCE": "off"})
    script = tmp_path / "shop.py"
    script.write_text(SCRIPT)
    cluster.first.run("deploy", script)
    (shop,) = cluster.first.status()["apps"]
    url = shop["endpoints"][0]["url"]
    port = urllib.parse.urlsplit(url).port
    visitor = Visitor(c.machine, b.machine, url)
    wait_for(lambda: entrances(cluster) == {"b": [port], "c": []}, "the entrance of `b`")

    assert c.machine.address == visitor.ask()  # and no address of `b`
    with pytest.raises(ConnectionRefusedError):
        Visitor(b.machine, c.machine, url).ask()

    with visitor:
        cluster.kill_control_plane()
        visitor.more()
        cluster.first.run("up")
        cluster.until("b", machines.READY)
        visitor.more()
        cluster.kill_agent("b")
        visitor.more()
        cluster.start_agent("b")
        cluster.until("b", machines.READY)
        visitor.more()
        print(f"the longest request took {visitor.longest_s:.2f} s")
        assert [] == visitor.failed

    ask_while_the_first_machine_is_away(cluster, visitor)

    # A machine that is removed lets nobody in.
    cluster.first.run("node", "remove", "b", "-y")

    def is_closed() -> bool:
        try:
            visitor.ask()
        except (OSError, http.client.HTTPException):
            return True
        return False

    wait_for(is_closed, "the end of the entrance")


def ask_while_the_first_machine_is_away(cluster, visitor: Visitor) -> None:
    address = visitor.ask()
    # Its HAProxy is killed: what was inside fails, and the next request waits for the next HAProxy.
    for haproxy in cluster.first.processes("-db -f"):
        haproxy.kill()
        assert [] == processes.living(haproxy.pid)
    began = time.monotonic()
    assert address == visitor.ask()
    print(f"after the death of HAProxy a request took {time.monotonic() - began:.2f} s")

    # The first machine is cut off. Who waits for its answer hears of it soon; who comes now waits until it is back.
    inside = Outcome(lambda: visitor.ask("/slow?seconds=300"))
    wait_for(lambda: visitor.ask("/inside") == "1", "a request inside")
    cut_at = time.monotonic()
    cluster.machines.cut(cluster.first.machine)
    inside.wait()
    print(f"after {time.monotonic() - cut_at:.2f} s: {inside.error!r}")
    assert isinstance(inside.error, http.client.RemoteDisconnected), inside.error
    late = Outcome(visitor.ask)
    with pytest.raises(TimeoutError):
        late.wait(1.0)
    cluster.machines.heal()
    late.wait()
    assert (address, None) == (late.value, late.error)


class Outcome:
    """What becomes of a call in a thread of its own."""

    def __init__(self, call) -> None:
        self.value: str | None = None
        self.error: Exception | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self, seconds: float = PATIENCE_S) -> None:
        """Wait for the end; `TimeoutError` if there is none."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError

    def _run(self) -> None:
        try:
            self.value = self._call()
        except (OSError, http.client.HTTPException) as error:
            self.error = error


def entrances(cluster) -> dict[str, list[int]]:
    return {node["name"]: node["entrance"] for node in cluster.first.ask("/v1/nodes")["nodes"]}
