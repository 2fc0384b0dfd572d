"""Requests that containers of another machine answer: whatever works here works there, also while parts of it are killed.

The first machine isolates no containers, so those that block their network have to be on the other one.
"""

import asyncio
import subprocess

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.journeys import machines
from tests.journeys.machines import READY, On
from tests.waiting import PATIENCE_S, wait_for

THERE = """
import asyncio
import contextlib
import os
import subprocess
import sys
import time

import homeport
from fastapi import BackgroundTasks, FastAPI, WebSocket
from starlette.responses import StreamingResponse

app = homeport.App("there")
go_on = asyncio.Event()
web = FastAPI()
inside = 0


@web.get("/events")
async def events():
    async def pieces():
        yield "first\\n"
        await go_on.wait()
        yield "last\\n"
    return StreamingResponse(pieces(), media_type="text/event-stream")


@web.post("/go-on")
async def release():
    go_on.set()


@web.get("/slow")
async def slow(seconds: float):
    print("a slow one begins", flush=True)
    await asyncio.sleep(seconds)
    return "slow"


@web.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text[::-1])


@app.function(min_containers=1, max_containers=1, block_network=True)
@homeport.concurrent(max_inputs=20)
@homeport.asgi_app()
def wire():
    return web


one = FastAPI()


@one.get("/")
async def alone(background: BackgroundTasks):
    global inside
    inside += 1
    most = inside
    await asyncio.sleep(0.02)

    async def afterwards():
        global inside
        await asyncio.sleep(0.05)
        inside -= 1
    background.add_task(afterwards)
    return {"inside": most, "container": os.environ["MODAL_TASK_ID"]}


@app.function(max_containers=1, scaledown_window=2, block_network=True)
@homeport.asgi_app()
def single():
    return one


@app.function(max_containers=1, block_network=True)
@homeport.web_server(8000)
def program():
    subprocess.Popen([sys.executable, "-m", "http.server", "8000"])


@app.function(single_use_containers=True, max_containers=3, block_network=True)
@homeport.fastapi_endpoint()
def once():
    return os.environ["MODAL_TASK_ID"]


@app.function(min_containers=2, block_network=True)
@homeport.concurrent(max_inputs=20)
@homeport.fastapi_endpoint(method="POST")
def dies(body: dict):
    return os.environ["MODAL_TASK_ID"]
"""


@pytest.fixture
def there(tmp_path):
    """A cluster whose other machine, `b`, has the containers of an app."""
    with machines.cluster(tmp_path / "cluster", {"HOMEPORT_ISOLATION": "off"}) as made:
        made.join("b")
        script = tmp_path / "there.py"
        script.write_text(THERE)
        made.first.run("deploy", script)
        yield made


def test_an_app_works_on_another_machine_as_it_does_here(there):
    first = there.first
    urls = first.urls()
    with first.machine.inside():
        asyncio.run(protocols(urls["wire"]))
        asyncio.run(slots(urls["single"]))
        asyncio.run(single_use(urls["once"]))
        with httpx.Client(timeout=PATIENCE_S) as visitor:
            listing = visitor.get(urls["program"])
            assert (200, True) == (listing.status_code, "Directory listing" in listing.text)

            # It scales to zero, and requests wait for the next container.
            before = visitor.get(urls["single"]).json()["container"]
            wait_for(lambda: not of(first, "single"), "no container of `single`")
            assert before != visitor.get(urls["single"]).json()["container"]
    assert {"b"} == {each["node"] for each in first.containers()}
    asyncio.run(over_a_restart(there, urls["wire"]))
    asyncio.run(while_idle_containers_die(there, urls["dies"]))


def of(first: On, function: str) -> list[dict]:
    return [each for each in first.containers() if each["function"] == function]


async def protocols(url: str) -> None:
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as visitor,
        visitor.stream("GET", "/events") as events,
        connect(f"ws{url.removeprefix('http')}/ws") as socket,
    ):
        pieces = events.aiter_text()
        assert "first\n" == await anext(pieces)
        for text in ("abc", "x" * 300_000):
            await socket.send(text)
            assert text[::-1] == await socket.recv()
        await visitor.post("/go-on")
        assert "last\n" == await anext(pieces)


async def slots(url: str) -> None:
    """A container with one slot has one request, also while work goes on after a response."""
    async with httpx.AsyncClient(timeout=PATIENCE_S) as visitor:
        answers = await asyncio.gather(*(visitor.get(url) for _ in range(12)))

    assert [1] * 12 == [answer.json()["inside"] for answer in answers]


async def single_use(url: str) -> None:
    """Containers that end after a request each, while others come for them."""
    async with httpx.AsyncClient(timeout=PATIENCE_S) as visitor:
        answers = await asyncio.gather(*(visitor.get(url) for _ in range(12)))

    assert [200] * 12 == [answer.status_code for answer in answers]
    assert 12 == len({answer.text for answer in answers})


async def over_a_restart(there, url: str) -> None:
    """Requests go on inside while the control plane is killed and the next one takes over."""
    first = there.first
    with first.machine.inside():
        client = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S)
        async with client as visitor:
            asked = [asyncio.create_task(visitor.get("/slow?seconds=4")) for _ in range(3)]
            await asyncio.to_thread(first.log, "there", *["a slow one begins"] * 3)
            there.kill_control_plane()
            quick = await visitor.get("/slow?seconds=0")
            await asyncio.to_thread(first.run, "up")
            answers = [quick, *await asyncio.gather(*asked)]
    there.until("b", READY)

    assert ['"slow"'] * 4 == [answer.text for answer in answers]


async def while_idle_containers_die(there, url: str) -> None:
    """A container that has no request inside is killed: no request is lost, whether the control plane knows it or not."""
    first, b, statuses = there.first, there.nodes["b"].machine, []
    with first.machine.inside():
        for _ in range(5):
            await asyncio.to_thread(wait_for, lambda: ready(first, "dies") >= 2, "two containers")
            victim = of(first, "dies")[0]
            subprocess.run(b.words("kill", "-9", str(victim["pid"])), check=True)
            limits = httpx.Limits(max_keepalive_connections=0)
            async with httpx.AsyncClient(timeout=PATIENCE_S, limits=limits) as visitor:
                bodies = [{"text": "x" * size} for size in (1, 100, 10_000, 15_000) * 5]
                asked = (visitor.post(url, json=body) for body in bodies)
                statuses += [answer.status_code for answer in await asyncio.gather(*asked)]

    assert [200] * 100 == statuses


def ready(first: On, function: str) -> int:
    return len([each for each in of(first, function) if each["state"] == "ready"])


APP = """
import os

import homeport

app = homeport.App("spread")


@app.function(min_containers=4)
@homeport.concurrent(max_inputs=20)
@homeport.fastapi_endpoint()
def web():
    return {"container": os.environ["MODAL_TASK_ID"]}


@app.function(min_containers=4)
def double(x: int):
    return os.environ["MODAL_TASK_ID"], 2 * x


@app.local_entrypoint()
def main():
    answers = list(homeport.Function.from_name("spread", "double").map(range(40)))
    assert sum(range(0, 80, 2)) == sum(value for _, value in answers)
    print(*sorted({container for container, _ in answers}))
"""


@pytest.fixture
def cluster(tmp_path):
    with machines.cluster(tmp_path / "cluster") as made:
        yield made


def test_calls_are_answered_on_all_machines(cluster, tmp_path):
    cluster.join("b")
    first = cluster.first
    script = tmp_path / "spread.py"
    script.write_text(APP)
    first.run("deploy", script)
    containers = first.json("container", "list")
    of_b = {each["id"] for each in containers if each["node"] == "b"}
    assert 4 == len(of_b)

    called = set(first.run("run", script).stdout.split())

    assert called & of_b
    assert called - of_b
