"""HAProxy with a large configuration: 1,000 machines and 10,000 endpoints, and a reload while requests come in.

`python -m bench.large [--machines N] [--endpoints N] [--containers N]`, each endpoint with so many containers

The machines are one: each has the same address, where a HAProxy of homeport's listens, as beside an agent. It prints how long a reload
takes, what the processes need, and what became of requests to one endpoint that were sent every 10 ms meanwhile.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.ingress.machines import A, Machine

from bench.answers import Longest
from bench.ingress import POOL, opened, started
from homeport.contract.traffic import Endpoint, Peer, PoolKey
from homeport.ingress.haproxy import HAProxy
from homeport.link.authority import Authority
from homeport.undo import Undo

EACH_S = 0.01
IDLE_S = 5.0


async def fill(ingress: HAProxy, peer: Peer, args: argparse.Namespace) -> None:
    """Let HAProxy's next process know all machines, endpoints and containers."""
    picture = ingress._picture  # noqa: SLF001 - a reload for each machine would take an hour
    async with Undo("filling") as undo:
        for number in range(args.machines):
            picture.put_peer(f"n{number}", peer, undo)
        undo.keep()
    for number in range(args.endpoints):
        pool, name = PoolKey(f"app-{number // 50}", f"f{number}", "rv-1"), f"e{number}"
        await ingress.route(Endpoint(id=name, pool=pool, hosts=(f"{name}.localhost",)))
        for index in range(args.containers):
            node = f"n{(number + index) % args.machines}"
            await ingress.attach(pool, f"ta-{number}-{index}", f"peer:{node}/c{number}", 1)


async def ask(port: int, seen: Counter[str], slowest: list[float]) -> None:
    """Ask one endpoint again and again, each time on a new connection."""
    while True:
        began = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: probe.localhost\r\nConnection: close\r\n\r\n")
            seen[(await reader.readline()).decode().strip()] += 1
            writer.close()
        except OSError as error:
            seen[type(error).__name__] += 1
        slowest.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(EACH_S)


async def measured(args: argparse.Namespace, root: Path) -> None:
    """Start HAProxy with all of it, and let one more machine join."""
    ingress = await opened(root)
    cluster = root / "home" / "cluster"
    ca = Authority(cluster)
    ca.open()
    machine = await Machine(root / "machines", ca, A).open()
    began = time.perf_counter()
    await fill(ingress, machine.peer, args)
    print(f"filled in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    server = await started(ingress, root)
    print(f"started in {time.perf_counter() - began:.2f} s")
    await ingress.route(Endpoint(id="probe", pool=POOL, hosts=("probe.localhost",)))
    files = [*(root / "home").rglob("haproxy-*.cfg")]
    print(f"configuration: {max(file.stat().st_size for file in files) / 2**20:.1f} MiB")
    await idle(ingress, "idle")
    seen, slowest, longest = Counter[str](), list[float](), Longest()
    asking = asyncio.create_task(ask(ingress.http_port, seen, slowest))
    for number in range(3):
        await asyncio.sleep(1)
        began = time.perf_counter()
        await ingress.peer(f"more-{number}", machine.peer)
        print(f"a machine joins: {time.perf_counter() - began:.2f} s", flush=True)
    began = time.perf_counter()
    await ingress.route(Endpoint(id="one-more", pool=POOL, hosts=("one-more.localhost",)))
    print(f"one more endpoint: {(time.perf_counter() - began) * 1000:.0f} ms")
    asking.cancel()
    print(f"the longest stretch of this process: {longest.ms:.0f} ms")
    ranked = sorted(slowest)
    print(
        f"requests: {dict(seen)}; ms: median {ranked[len(ranked) // 2]:.1f}, slowest {ranked[-1]:.0f}"
    )
    await asyncio.sleep(2)
    await idle(ingress, "idle after it")
    server.close()
    await ingress.close()
    await machine.port.close()


async def idle(ingress: HAProxy, what: str) -> None:
    """Print what HAProxy needs while nobody asks."""
    assert ingress.pid is not None
    process = psutil.Process(ingress.pid)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(IDLE_S)
    share = (sum(process.cpu_times()[:2]) - before) / IDLE_S
    print(f"{what}: {process.memory_info().rss / 2**20:.0f} MiB, {100 * share:.0f} % of a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--containers", type=int, default=1)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as root:
        asyncio.run(measured(parser.parse_args(), Path(root)))


if __name__ == "__main__":
    main()
