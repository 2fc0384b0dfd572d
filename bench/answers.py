"""What the API's answers about a large fleet cost: 1,000 nodes, 10,000 functions in 200 apps, 100,000 containers.

`python -m bench.answers [--nodes N] [--apps N] [--functions N] [--containers N]`, each function with so many containers

What runs is the API of a server with its real routes, over a fleet in memory. It prints for each route how long the answer took,
its size, and the longest stretch in which nothing else on the event loop had its turn, in CPU time.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.control.api.served import api_of
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, StartOrder, State
from homeport.contract.scope import MAIN
from homeport.control.api.access import OwnSocket
from homeport.control.deploys import plans
from homeport.control.deploys.apps import LiveApp
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.usage import Sampler
from homeport.state.nodes import NodeRow
from homeport.state.rows import Revision

CAPACITY = Capacity(cores=64, memory_mib=262144, places=250)
ROUTES = (
    "/v1/nodes",
    "/v1/status",
    "/v1/apps",
    "/v1/apps/app-1",
    "/v1/containers",
    "/v1/findings",
    "/metrics",
)


class Longest:
    """The longest stretch of the event loop, in milliseconds of CPU time."""

    def __init__(self) -> None:
        self.ms = 0.0
        longest, run = self, asyncio.Handle._run  # noqa: SLF001 - each callback and each step of a task is one

        def timed(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            run(handle)
            longest.ms = max(longest.ms, (time.thread_time() - began) * 1000)

        asyncio.Handle._run = timed  # noqa: SLF001


def fill(plane: Plane, args: argparse.Namespace) -> list[FakeNode]:
    """Let the plane have its nodes, apps and containers, as a server that has run for a while."""
    fakes = [FakeNode(capacity=CAPACITY, name=f"n{number:05}") for number in range(args.nodes)]
    numbers = 0
    for number in range(args.apps):
        name = f"app-{number}"
        functions = [function(f"f{index}") for index in range(args.functions)]
        revision = Revision(
            id=f"rv-{number}", app=name, version=1, manifest=manifest(*functions, app=name)
        )
        owner = Owner.app(MAIN, name)
        planned = plane.parts.plans.of(revision)
        plane.parts.live.add(
            LiveApp(owner=owner, name=name, revision=revision, endpoints=dict(planned.endpoints))
        )
        for pool in plans.pools(revision, planned, owner=owner, tree=Path("/")):
            plane.pools.add(pool)
            for _ in range(args.containers):
                fake = fakes[numbers % len(fakes)]
                order = StartOrder(
                    id=f"ta-{numbers:06}", pool=pool.key, function=pool.function, within=MAIN
                )
                container = Container(
                    order=order, state=State.READY, node=fake.name, address="abstract:x"
                )
                fake._containers[order.id] = container  # noqa: SLF001 - a start of each would take minutes
                plane.pools.enlist(pool, Member(id=order.id, stage=Stage.READY))
                numbers += 1
    return fakes


async def measured(args: argparse.Namespace, home: Path) -> None:
    """Fill the fleet, and ask for each answer."""
    plane = Plane(home)
    fakes = fill(plane, args)
    await plane.environments.load()
    await plane.secret_box.load()
    await plane.domains.load()
    await plane.nodes.open()
    for fake in fakes:
        plane.nodes.add(fake)
    async with api_of(plane, home) as server:
        rows = server.machines.rows._rows  # noqa: SLF001 - to join takes a second each
        rows |= {fake.name: NodeRow(name=fake.name, id=fake.name, joined_at=0.0) for fake in fakes}
        while len(plane.nodes.containers()) < args.apps * args.functions * args.containers:
            await asyncio.sleep(0.1)
        gc.collect()
        gc.freeze()
        app, longest = OwnSocket(server.api.app()), Longest()
        print(f"{'':16} {'ms':>8} {'MiB':>8} {'longest stretch, ms':>20}")
        for path in ROUTES:
            await look(path, lambda path=path: get(app, path), longest)
        sampler = Sampler(plane.nodes, plane.pools, lambda *_: None)
        await look("(usage)", sampler.look, longest)
        await look("(usage again)", sampler.look, longest)


async def look(
    what: str, work: Callable[[], Coroutine[object, object, object]], longest: Longest
) -> None:
    """Do something, and print what it cost."""
    await asyncio.sleep(0)
    longest.ms, began = 0.0, time.perf_counter()
    size = await asyncio.create_task(work())  # of its own, so that its last stretch counts
    took_ms = (time.perf_counter() - began) * 1000
    mib = f"{size / 2**20:.2f}" if isinstance(size, int) else ""
    print(f"{what:16} {took_ms:>8.0f} {mib:>8} {longest.ms:>20.0f}", flush=True)


async def get(app: Callable[..., Awaitable[None]], path: str) -> int:
    """Ask the API in this process; return the bytes of its answer."""
    size, scope = (
        0,
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [],
            "asgi": {"spec_version": "2.4"},
        },
    )

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        nonlocal size
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"{path}: {message['status']}")
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        size += len(body)

    await app(scope, receive, send)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--apps", type=int, default=200)
    parser.add_argument("--functions", type=int, default=50)
    parser.add_argument("--containers", type=int, default=10)
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(measured(parser.parse_args(), Path(home)))


if __name__ == "__main__":
    main()
