"""Two agents on one machine, each a process of its own over mTLS, under one control plane with a real HAProxy."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import httpx
import psutil
import pytest

from homeport.contract.container import State
from homeport.contract.manifest import FunctionSpec, WebKind, WebMethod
from homeport.contract.scope import MAIN
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.control.fleet.activator import Activator
from homeport.control.fleet.mirror import Health
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler
from homeport.ingress.haproxy import HAProxy
from homeport.settings import Settings
from tests import processes
from tests.fakes import NoSecrets
from tests.link.cluster import Cluster
from tests.waiting import PATIENCE_S, until

GONE_S = 1.0
KEY = PoolKey("app", "web", "rv-1")
SCRIPT = """
import asyncio, os
import modal

app = modal.App("app")


@app.function()
@modal.asgi_app()
def web():
    async def app(scope, receive, send):
        await asyncio.sleep(0.2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": os.environ["MODAL_TASK_ID"].encode()})
    return app
"""


class Plane:
    """What `control/main.py` joins, without a store, and with two nodes elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cluster = Cluster(root, root / "revisions")
        self.source = root / "revisions" / "rv-1"
        self.source.mkdir(parents=True)
        (self.source / "script.py").write_text(SCRIPT)
        self.settings = Settings(home=root / "home", http_port=0)
        for directory in (self.settings.run_dir, self.settings.socket_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.said: list[str] = []
        self.pools = Pools()

    async def open(self, opened: contextlib.AsyncExitStack) -> None:
        ingress = HAProxy(self.settings, tied=True)
        self.cluster.lead(ingress, self.settings.home / "cluster")
        remotes = [self.cluster.remote(name) for name in ("a", "b")]
        self.nodes = Nodes(remotes, on_line=lambda _line: None, gone_s=GONE_S)
        await self.cluster.open()
        opened.push_async_callback(self.cluster.close)
        for name in ("a", "b"):
            await self.cluster.start_agent(name)
        await self.nodes.open()
        opened.push_async_callback(self.nodes.close)
        self.reconciler = Reconciler(
            self.pools,
            self.nodes,
            ingress,
            NoSecrets(),
            key=str,
            say=lambda line: self.said.append(line.text),
            started=lambda _start: None,
        )
        self.nodes.watch(self.reconciler.changed)
        activator = Activator(
            self.settings.activator_socket,
            self.pools,
            wake=self.reconciler.wake,
            rouse=self.reconciler.rouse,
            alias=ingress.alias,
            say=lambda line: self.said.append(line.text),
        )
        await ingress.open()
        opened.push_async_callback(ingress.close)
        await activator.open()
        opened.push_async_callback(activator.close)
        await ingress.start()
        self.reconciler.open()
        opened.push_async_callback(self.reconciler.close)
        self.pools.add(self.pool())
        await ingress.route(Endpoint(id="web", hosts=("web.localhost",), pool=KEY))
        self.client = await opened.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{ingress.http_port}",
                headers={"Host": "web.localhost"},
                timeout=PATIENCE_S,
            )
        )

    def pool(self) -> Pool:
        """Return the pool of a function; each node has room for two of its containers."""
        memory_mib = psutil.virtual_memory().total // 1024**2
        web = WebMethod(tag="web", attribute="web", kind=WebKind.ASGI)
        function = FunctionSpec(
            name="web",
            module="script",
            qualname="web",
            web=(web,),
            max_inputs=1,
            memory_mib=(int(memory_mib * 0.4), None),
        )
        return Pool(
            key=KEY, function=function, source=str(self.source), owner=Owner.app(MAIN, "app")
        )

    async def visit(self) -> str:
        response = await self.client.get("/")
        assert 200 == response.status_code, (response.text, self.said)
        return response.text

    def ready(self, node: str) -> set[str]:
        """Return the ids of a node's containers that are ready."""
        return {c.id for c in self.nodes.containers() if c.node == node and c.state is State.READY}


@pytest.fixture
async def plane():
    # Not `tmp_path`: its name is too long for a socket in it (man 7 unix).
    root = Path(tempfile.mkdtemp(prefix="two"))
    plane = Plane(root)
    async with contextlib.AsyncExitStack() as opened:
        try:
            await plane.open(opened)
            yield plane
        finally:
            processes.end_of(root)
    shutil.rmtree(root, ignore_errors=True)


async def test_the_containers_of_an_agent_that_is_killed_are_replaced_and_end_when_it_is_back(
    plane,
):
    await asyncio.gather(*(plane.visit() for _ in range(3)))
    await until(
        lambda: (2, 1) == (len(plane.ready("a")), len(plane.ready("b"))), "three containers"
    )
    before = {c.id: c for c in plane.nodes.containers()}
    lost = plane.ready("a")
    ended = asyncio.Event()
    answers: list[str] = []

    async def visitor() -> None:
        while not ended.is_set():
            answers.append(await plane.visit())

    visitors = [asyncio.create_task(visitor()) for _ in range(2)]
    await plane.cluster.end_agent("a")
    await until(lambda: plane.nodes.mirrors["a"].health is Health.GONE, "the node to be given up")
    await until(lambda: len(plane.ready("b")) == 2, "the container that replaces the lost ones")
    replaced_at = len(answers)
    await until(lambda: len(answers) > replaced_at + 10, "ten more answers")
    assert all(processes.lives(before[name].pid) for name in lost)  # they run, and get no requests
    assert not lost & set(answers[replaced_at + 2 :])

    await plane.cluster.start_agent("a")
    await until(
        lambda: not any(processes.lives(before[name].pid) for name in lost),
        "the lost containers to end",
    )
    visitors += [asyncio.create_task(visitor()) for _ in range(2)]
    await until(lambda: plane.ready("a"), "a container on the node that is back")
    back_at = len(answers)
    await until(lambda: plane.ready("a") & set(answers[back_at:]), "its answer")
    ended.set()
    await asyncio.gather(*visitors)

    assert not lost & set(answers[replaced_at + 2 :])
    assert not lost & plane.ready("a")
    assert {1} == {c.order.generation for c in plane.nodes.containers() if c.node == "a"}
    assert any("its node `a` does not answer" in text for text in plane.said)
