"""A simulation of a large fleet: 1,000 nodes, 100,000 containers, 1,000 deploys an hour, on a virtual clock.

`python -m bench.fleet [--nodes N] [--containers N] [--pools N] [--profile]`

What runs is the pure code of `control/fleet`: pools, agenda, rooms, scheduler, mirrors and the control loop, with the two roles in
memory. It prints how long a pass takes (median, 99 %, longest), by what happened in it, and how much memory the state takes.
"""

import argparse
import asyncio
import cProfile
import pstats
import resource
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fakes import FakeIngress, FakeNode, NoSecrets
from tests.waiting import VirtualLoop

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, StartOrder, State
from homeport.contract.manifest import FunctionSpec
from homeport.contract.scope import MAIN
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler

DEPLOY_EACH_S = 3.6  # 1,000 an hour
CAPACITY = Capacity(cores=64, memory_mib=262144, places=250)


class Ingress(FakeIngress):
    """The fake, whose calls are not recorded: a hundred thousand of them would be the memory that is measured."""

    async def attach(self, *_args: object, **_named: object) -> None:
        pass

    async def drain(self, *_args: object) -> None:
        pass

    async def detach(self, *_args: object, **_named: object) -> bool:
        return True

    async def doze(self, _pools: object) -> None:
        pass

    async def load(self, _pools: object) -> dict[PoolKey, Load]:
        return {}


class Fleet:
    """The nodes and pools."""

    def __init__(self, nodes: int, containers: int, pools: int) -> None:
        self.fakes = [FakeNode(0.05, capacity=CAPACITY, name=f"n{i:04}") for i in range(nodes)]
        self.each, self.count = containers // pools, pools
        self.nodes = Nodes(self.fakes, on_line=lambda _line: None)
        self.pools = Pools()
        self.loop = Reconciler(
            self.pools,
            self.nodes,
            Ingress(),
            NoSecrets(),
            key=lambda _scope: "",
            say=lambda _line: None,
            started=lambda _start: None,
        )
        self.nodes.watch(self.loop.changed)

    def add(self, number: int, revision: int = 0, least: int = 0) -> Pool:
        """Add a pool, as a deploy does."""
        spec = FunctionSpec(name="f", module="m", qualname="f", min_containers=least)
        key = PoolKey(f"app-{number}", "f", f"rv-{number}-{revision}")
        pool = Pool(key=key, function=spec, source="", owner=Owner.app(MAIN, f"app-{number}"))
        self.pools.add(pool)
        return pool

    async def fill(self) -> None:
        """Let every node have its containers already, as after a restart of the control plane."""
        for number in range(self.count):
            pool = self.add(number, least=self.each)
            for index in range(self.each):
                name = f"ta-{number}-{index}"
                fake = self.fakes[(number * self.each + index) % len(self.fakes)]
                order = StartOrder(id=name, pool=pool.key, function=pool.function)
                container = Container(
                    order=order, state=State.READY, node=fake.name, address="abstract:x"
                )
                fake._containers[name] = container  # noqa: SLF001 - a start of each would take minutes
        await self.nodes.open()
        await self.loop.adopt()


async def measured(args: argparse.Namespace) -> None:
    """Fill the fleet, then deploy, and measure each pass."""
    tracemalloc.start() if args.memory else None
    fleet = Fleet(args.nodes, args.containers, args.pools)
    began = time.perf_counter()
    await fleet.fill()
    print(f"adopted {len(fleet.nodes.containers())} in {time.perf_counter() - began:.1f} s")
    loop, passes = asyncio.get_running_loop(), {"compare": [], "deploy": [], "other": []}
    profile = cProfile.Profile() if args.profile else None
    deploys, due = 0, loop.time() + 1.0
    until = loop.time() + args.seconds
    while loop.time() < until:
        kind = "other"
        if loop.time() >= due:
            due, kind = loop.time() + DEPLOY_EACH_S, "deploy"
            number = deploys % args.pools
            old = fleet.pools.of_revision(f"app-{number}", f"rv-{number}-{deploys // args.pools}")
            fleet.add(number, deploys // args.pools + 1, least=2)
            for pool in old:
                pool.retire(0.0)
                fleet.loop.wake(pool)
            deploys += 1
        elif loop.time() >= fleet.loop._compared_at + 1.0:  # noqa: SLF001 - only to sort the times
            kind = "compare"
        if profile and loop.time() > 2:
            profile.enable()
        began = time.perf_counter()
        await fleet.loop.step()
        await fleet.loop._naps.next_s(loop.time())  # noqa: SLF001 - as the loop itself does
        passes[kind].append((time.perf_counter() - began) * 1000)
        if profile:
            profile.disable()
        await asyncio.sleep(0.05)
    for kind, took in passes.items():
        if took:
            took.sort()
            print(
                f"{kind:8} {len(took):6} passes: median {statistics.median(took):.2f} ms, "
                f"99 % {took[int(len(took) * 0.99)]:.2f}, longest {took[-1]:.2f}"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{deploys} deploys, {len(fleet.nodes.containers())} containers, peak {peak} MiB resident"
    )
    if profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--containers", type=int, default=100_000)
    parser.add_argument("--pools", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(measured(parser.parse_args()))


if __name__ == "__main__":
    main()
