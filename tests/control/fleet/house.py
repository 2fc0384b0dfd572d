"""The fleet with both roles in memory, for tests: pools, the control loop and the activator."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

from homeport.contract.errors import Failure, IngressError
from homeport.contract.manifest import FunctionSpec
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.activator import Activator
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler
from tests.fakes import FakeIngress, FakeNode, NoSecrets

KEY = PoolKey("app", "f", "rv-1")


class Fleet:
    """What the control plane's deploys act on."""

    def __init__(
        self,
        nodes: Sequence[FakeNode],
        secrets: Any,
        started: Callable[[Any], None] = lambda _start: None,
        key: Callable[[Any], str] = lambda _scope: "",
    ) -> None:
        self.node, self.nodes = nodes[0], Nodes(nodes, on_line=lambda _line: None)
        self.ingress, self.pools = FakeIngress(), Pools()
        self.said = []
        self.reconciler = Reconciler(
            self.pools,
            self.nodes,
            self.ingress,
            secrets,
            key=key,
            say=self.said.append,
            started=started,
        )
        self.activator = Activator(
            None,
            self.pools,
            wake=self.reconciler.wake,
            rouse=self.reconciler.rouse,
            alias=self.ingress.alias,
            say=self.said.append,
        )
        self.ingress.park = self.activator.park
        self.ingress.rouse = self.reconciler.rouse
        self.nodes.watch(self.reconciler.changed)

    async def __aenter__(self) -> Self:
        await self.nodes.open()
        self.reconciler.open()
        return self

    async def __aexit__(self, *_args) -> None:
        await self.reconciler.close()
        await self.nodes.close()


class House(Fleet):
    """A fleet with one pool, `pool`, which has no deploy behind it."""

    def __init__(self, *fakes: FakeNode | None, max_containers_here: int = 100, **function) -> None:
        nodes = [fake or FakeNode() for fake in fakes] or [FakeNode()]
        for node in nodes:
            node.capacity = dataclasses.replace(node.capacity, places=max_containers_here)
        self.starts = []
        super().__init__(nodes, NoSecrets(), self.starts.append)
        self.pool = self.add(KEY, **function)

    def add(self, key: PoolKey, **function) -> Pool:
        spec = FunctionSpec(name=key.function, module="m", qualname="f", **function)
        pool = Pool(key=key, function=spec, source="", owner=Owner.app(MAIN, "app"))
        self.pools.add(pool)
        return pool

    def visits(self, count: int, duration_s: float = 1.0) -> list[asyncio.Task]:
        return [asyncio.create_task(self.ingress.visit(KEY, duration_s)) for _ in range(count)]


def elapsed() -> float:
    return asyncio.get_running_loop().time()


def faulty(
    house: House, *calls: str, times: int = 10**9, error: Failure | None = None
) -> list[str]:
    """Make the first `times` of these calls fail; return the list of calls that have failed."""
    failed = []

    async def fault(call, what, when):
        if call in calls and when == "before" and len(failed) < times:
            failed.append(call)
            raise error or IngressError("the disk is full")

    house.ingress.fault = fault
    return failed
