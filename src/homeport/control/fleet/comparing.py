"""Compares the nodes' lists with the pools, in case an event was lost, a share of them in each pass.

A round looks first at each node's containers, and then at each container of a pool. The next round begins `COMPARE_S` after
the end of the last one. With few containers a round is one pass; with 100,000 it takes several seconds. Each container is compared
with what its node's list has at that moment, so it does not matter what changes while a round is under way.

Containers of an app that is being restored are left alone; as soon as it is restored, they are looked at in the next pass.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from homeport.contract.container import Container
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools

COMPARE_S = 1.0
SHARE = 2500  # containers that one pass compares, about 8 ms; one node more if it has more


class Acts(Protocol):
    """What is done about a difference."""

    def changed(self, container: Container) -> None:
        """Take in a container's state, as an event would."""

    def take_in(self, container: Container) -> bool:
        """Give a container that has no pool to the pool that wants it; return False if none does."""

    def end_unwanted(self, container: str) -> None:
        """End a container that no pool wants."""

    def end_replaced(self, pool: Pool, member: Member) -> None:
        """End a container of a pool that another one with the same key has replaced."""

    def lost(self, pool: Pool, member: Member) -> None:
        """Take in that no node has a container any more."""


class Comparing:
    """The round that is under way."""

    def __init__(
        self,
        pools: Pools,
        nodes: Nodes,
        acts: Acts,
        *,
        spares: Callable[[Owner], bool],
        share: int = SHARE,
    ) -> None:
        """`spares` returns whether an app is still being restored."""
        self._pools, self._nodes, self._acts = pools, nodes, acts
        self._spares, self._share = spares, share
        self._ended_at = -math.inf
        self._nodes_left: deque[str] = deque()
        self._members_left: deque[str] | None = None  # None: the nodes' turn is not over
        self.is_under_way = False
        self._unwanted: set[str] = set()  # containers without a pool that were asked to stop
        #: Containers without a pool whose app is being restored.
        self._spared: dict[Owner, dict[str, None]] = {}

    def step(self, now: float, *, at_once: bool) -> None:
        """Compare a share of the containers; begin a round if it is time, or `at_once`."""
        if not self.is_under_way and (at_once or now >= self._ended_at + COMPARE_S):
            self.is_under_way = True
            self._nodes_left = deque(self._nodes.mirrors)
        if self._spared:
            self._restored()
        if self.is_under_way:
            self._continue(now)

    def spare(self, container: Container) -> None:
        """Leave a container alone until its app is restored."""
        self._spared.setdefault(_app_of(container), {})[container.id] = None

    def _continue(self, now: float) -> None:
        left = self._share
        while left > 0 and self._nodes_left:
            left -= self._node(self._nodes_left.popleft())
        if self._nodes_left:
            return
        if self._members_left is None:
            self._members_left = deque(self._pools.containers())
        while left > 0 and self._members_left:
            self._member(self._members_left.popleft())
            left -= 1
        if not self._members_left:
            self._forget_ended()
            self._members_left, self.is_under_way, self._ended_at = None, False, now

    def _forget_ended(self) -> None:
        self._unwanted = {name for name in self._unwanted if self._nodes.of(name) is not None}
        for app, names in list(self._spared.items()):
            self._spared[app] = {name: None for name in names if self._nodes.of(name) is not None}
            if not self._spared[app]:
                del self._spared[app]

    def _node(self, name: str) -> int:
        """Look at a node's containers; return how many it has, and one more."""
        if (mirror := self._nodes.mirrors.get(name)) is None:
            return 1  # it was removed meanwhile
        containers = list(mirror.containers.values())
        for container in containers:
            if (pool := self._pools.of_container(container.id)) is not None:
                pool.members[container.id].away = mirror.is_away
                self._acts.changed(container)
            else:
                self._stray(container)
        return 1 + len(containers)

    def _stray(self, container: Container) -> None:
        if container.id in self._unwanted:
            return
        if self._spares(_app_of(container)):
            self.spare(container)
        elif not self._acts.take_in(container):
            self._unwanted.add(container.id)
            self._acts.end_unwanted(container.id)

    def _restored(self) -> None:
        """Look at the containers of apps that were being restored and are not any more."""
        for app in [app for app in self._spared if not self._spares(app)]:
            for name in self._spared.pop(app):
                mirror = self._nodes.of(name)
                if mirror is not None and self._pools.of_container(name) is None:
                    self._stray(mirror.containers[name])

    def _member(self, name: str) -> None:
        if (pool := self._pools.of_container(name)) is None:
            return  # it has ended meanwhile
        member = pool.members[name]
        if self._nodes.of(name) is not None:
            member.missed = False
            if self._pools.get(pool.key) is not pool and member.stage is not Stage.STOPPING:
                self._acts.end_replaced(pool, member)
        elif not member.missed:
            member.missed = True  # the node's event about its end may still arrive
        else:
            self._acts.lost(pool, member)


def _app_of(container: Container) -> Owner:
    """Return the deployed app that a container is of, if it is of one."""
    return Owner.app(container.order.within, container.order.pool.app)
