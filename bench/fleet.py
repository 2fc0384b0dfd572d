"""A simulation of a large fleet: 1,000 nodes, 100,000 containers, 1,000 deploys an hour, on a virtual clock.

`python -m bench.fleet [--nodes N] [--containers N] [--pools N] [--minutes M] [--profile]`

What runs is the code of `control/fleet`: pools, agenda, rooms, scheduler, mirrors and the control loop as it runs in a server,
with the two roles in memory. A share of the pools always has requests. Every 3.6 s a new version of an app takes the place of
the one before. Nodes lose their power and come back, and others are drained, removed and replaced.

It prints how long a pass takes, and how long other work of the event loop had to wait for its turn (a stretch). Both include
what the garbage collector takes. Memory is what the process has, after each tenth of the time, and how many
blocks of it Python uses: what grows is what holds them.
"""

import argparse
import asyncio
import contextlib
import cProfile
import gc
import itertools
import os
import pstats
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fakes import FakeIngress, FakeNode, NoSecrets
from tests.waiting import VirtualLoop

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, StartOrder, State
from homeport.contract.manifest import FunctionSpec
from homeport.contract.scope import MAIN
from homeport.contract.traffic import Detached, Load, PoolKey
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler

DEPLOY_EACH_S = 3.6  # 1,000 an hour
OFF_EACH_S, OFF_S = 36.0, 30.0  # a node loses its power, and is back after this time
NEW_EACH_S = 180.0  # a node is drained and removed, and a new one joins
BUSY = 50  # one pool of so many has requests
CAPACITY = Capacity(cores=64, memory_mib=262144, places=250)
LONG_MS = 50.0


class Node(FakeNode):
    """The fake, which keeps no list of what it was told."""

    async def start(self, order: StartOrder, environ: object) -> None:
        await super().start(order, environ)
        self.started.clear()

    async def forget(self, _pool: PoolKey) -> None:
        self._reach()


class Ingress(FakeIngress):
    """The fake, whose calls are not recorded: a hundred thousand of them would be the memory that is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[PoolKey, list[str]] = {}  # of the busy pools

    async def attach(self, pool: PoolKey, container: str, *_args: object, **_named: object) -> None:
        if pool in self.members:
            self.members[pool].append(container)

    async def drain(self, pool: PoolKey, container: str) -> None:
        if container in self.members.get(pool, ()):
            self.members[pool].remove(container)

    async def detach(self, *_args: object, **_named: object) -> Detached:
        return Detached()

    async def lose(self, pool: PoolKey, container: str) -> None:
        await self.drain(pool, container)

    async def cut(self, *_args: object) -> None:
        pass

    async def drop(self, pool: PoolKey) -> None:
        self.members.pop(pool, None)

    async def doze(self, _pools: object) -> None:
        pass

    async def load(self, pools: object) -> dict[PoolKey, Load]:
        return {
            pool: Load(running=len(there), per_container=dict.fromkeys(there, 1))
            for pool in pools
            if (there := self.members.get(pool))
        }


class Fleet:
    """The nodes and pools."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.numbers = itertools.count()
        self.fakes = [self._node() for _ in range(args.nodes)]
        self.each, self.count = args.containers // args.pools, args.pools
        self.nodes, self.pools, self.ingress = (
            Nodes(self.fakes, on_line=lambda _line: None),
            Pools(),
            Ingress(),
        )
        self.loop = Reconciler(
            self.pools,
            self.nodes,
            self.ingress,
            NoSecrets(),
            key=lambda _scope: "",
            say=lambda _line: None,
            started=lambda _start: None,
        )
        self.nodes.watch(self.loop.changed)

    def _node(self) -> Node:
        return Node(0.05, capacity=CAPACITY, name=f"n{next(self.numbers):05}")

    def add(self, number: int, revision: int) -> Pool:
        """Add a pool, as a deploy does."""
        spec = FunctionSpec(
            name="f", module="m", qualname="f", min_containers=self.each, memory_mib=(512, None)
        )
        key = PoolKey(f"app-{number}", "f", f"rv-{number}-{revision}")
        if number % BUSY == 0:
            self.ingress.members[key] = []
        pool = Pool(key=key, function=spec, source="", owner=Owner.app(MAIN, f"app-{number}"))
        self.pools.add(pool)
        return pool

    async def fill(self) -> None:
        """Let every node have its containers already, as after a restart of the control plane."""
        for number in range(self.count):
            pool = self.add(number, 0)
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

    async def deploy(self) -> None:
        """Bring a new version of one app after the other, in place of the one before."""
        for number in itertools.count():
            await asyncio.sleep(DEPLOY_EACH_S)
            app, revision = number % self.count, number // self.count
            old = self.pools.of_revision(f"app-{app}", f"rv-{app}-{revision}")
            self.loop.wake(self.add(app, revision + 1))
            for pool in old:
                pool.retire(0.0)
                self.loop.wake(pool)

    async def lose_power(self) -> None:
        """Turn one node after the other off, for a while."""
        for number in itertools.count():
            await asyncio.sleep(OFF_EACH_S)
            fake = self.fakes[number * 7 % len(self.fakes)]
            fake.is_cut = True
            asyncio.get_running_loop().call_later(OFF_S, setattr, fake, "is_cut", False)

    async def come_and_go(self) -> None:
        """Drain one node after the other, remove it, and let a new one join."""
        while True:
            await asyncio.sleep(NEW_EACH_S)
            old = self.fakes.pop(0)
            await self.nodes.drain(old.name, on=True)
            await asyncio.sleep(NEW_EACH_S / 2)
            self.nodes.remove(old.name)
            self.fakes.append(self._node())
            self.nodes.add(self.fakes[-1])


class Watch:
    """How long passes and stretches take, in milliseconds."""

    def __init__(self, loop: Reconciler) -> None:
        self.passes: Counter[float] = (
            Counter()
        )  # how many took so long; a list would be the memory that is measured
        self.stretches: Counter[str] = Counter()  # the longest, by what ran
        self.long = 0  # how many were longer than LONG_MS
        self.collector_ms = 0.0  # the longest of the garbage collector's
        self._step, loop.step = loop.step, self._timed_step
        self._began = 0.0
        self._run = asyncio.Handle._run  # noqa: SLF001 - each callback and each step of a task is one

    def begin(self) -> None:
        """Look from now on."""
        watch, run = self, self._run
        self.passes.clear()

        def timed(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            run(handle)
            took_ms = (time.thread_time() - began) * 1000
            if took_ms > 5:
                watch.take(handle, took_ms)

        asyncio.Handle._run = timed  # noqa: SLF001
        gc.callbacks.append(self._collects)

    def take(self, handle: asyncio.Handle, took_ms: float) -> None:
        """Note a stretch."""
        of = getattr(handle._callback, "__self__", None)  # noqa: SLF001
        what = of.get_name() if isinstance(of, asyncio.Task) else "a callback"
        what = what.split(" n0")[0].split(" ta-")[0]
        self.stretches[what] = max(self.stretches[what], took_ms)
        self.long += took_ms > LONG_MS

    def least(self, share: float) -> float:
        """Return within which time this share of the passes has ended."""
        left = share * self.passes.total()
        for took_ms in sorted(self.passes):
            left -= self.passes[took_ms]
            if left <= 0:
                return took_ms
        return max(self.passes)

    def _collects(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.collector_ms = max(self.collector_ms, (time.thread_time() - self._began) * 1000)

    async def _timed_step(self) -> None:
        began = time.thread_time()
        await self._step()
        self.passes[round((time.thread_time() - began) * 1000, 2)] += 1


def resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


async def measured(args: argparse.Namespace) -> None:
    """Fill the fleet, let things happen, and look."""
    fleet = Fleet(args)
    watch = Watch(fleet.loop)
    began = time.perf_counter()
    await fleet.fill()
    print(f"adopted {len(fleet.nodes.containers())} in {time.perf_counter() - began:.1f} s")
    if args.freeze:
        gc.collect()
        gc.freeze()
    fleet.loop.open()
    await asyncio.sleep(10)
    happening = [
        asyncio.create_task(work(), name=work.__name__)
        for work in (fleet.deploy, fleet.lose_power, fleet.come_and_go)
    ]
    profile = cProfile.Profile() if args.profile else None
    watch.begin()
    began, cpu_began = time.perf_counter(), time.process_time()
    memory, blocks = [], []
    with profile or contextlib.nullcontext():
        for _ in range(10):
            await asyncio.sleep(args.minutes * 6)
            memory.append(resident_mib())
            gc.collect()
            blocks.append(sys.getallocatedblocks() // 1000)
    cpu_s, took_s = time.process_time() - cpu_began, time.perf_counter() - began
    for task in happening:
        task.cancel()
    print(
        f"{watch.passes.total()} passes: median {watch.least(0.5):.2f} ms, "
        f"99 % {watch.least(0.99):.1f}, longest {watch.least(1.0):.1f}"
    )
    longest = ", ".join(f"{what} {ms:.0f}" for what, ms in watch.stretches.most_common(6))
    print(f"stretches: {watch.long} over {LONG_MS:g} ms; the longest in ms: {longest}")
    print(f"the garbage collector: {watch.collector_ms:.0f} ms at most")
    print(
        f"{args.minutes:g} minutes took {took_s:.0f} s ({cpu_s:.0f} of CPU): "
        f"{100 * cpu_s / args.minutes / 60:.0f} % of a core; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{len(fleet.nodes.containers())} containers, {len([*fleet.pools])} pools; MiB: {memory}")
    print(f"memory blocks of Python's, in thousands: {blocks}")
    await fleet.loop.close()
    await fleet.nodes.close()
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--containers", type=int, default=100_000)
    parser.add_argument("--pools", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=3.0, help="on the virtual clock")
    parser.add_argument("--freeze", action="store_true", help="as a server does once it is ready")
    parser.add_argument("--profile", action="store_true")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(measured(parser.parse_args()))


if __name__ == "__main__":
    main()
