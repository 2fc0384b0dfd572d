"""Takes containers out of service: each gets no new request, finishes its requests, leaves the ingress, and stops.

A pool does so with containers that are too many, and with those of an earlier revision; a retired pool does so with all.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from homeport.contract.container import LogLine
from homeport.contract.roles import Ingress
from homeport.control.fleet import lines
from homeport.control.fleet.calm import PASS_S
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.mirror import Mirror
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pool import Pool, now
from homeport.control.fleet.pools import Pools
from homeport.supervised import Tasks, retried

#: Between two looks whether the last request of a container has left the ingress.
LONGEST_WAIT_S = 1.0
SERVE_GRACE_S = 1.0  # how long a `serve` session's containers may take to end


class Draining:
    """Drains, detaches and stops the containers of pools."""

    def __init__(
        self,
        pools: Pools,
        nodes: Nodes,
        ingress: Ingress,
        tasks: Tasks,
        *,
        say: Callable[[LogLine], None],
        wake: Callable[[Pool], None],  # makes the next pass of the control loop at once
    ) -> None:
        self._pools = pools
        self._nodes = nodes
        self._ingress = ingress
        self._tasks = tasks
        self._say = say
        self._wake = wake

    def end(self, container: str) -> None:
        """End a container for the user: it gets no new request, and its running requests finish.

        It is replaced only if demand needs it. An unknown container is ignored.
        """
        pool = self._pools.of_container(container)
        member = pool.members[container] if pool is not None else None
        if pool is None or member is None or member.stage is not Stage.READY:
            self._nodes.stop(container)
            return
        self.begin_end(pool, member, "the user has stopped it")

    def begin_end(self, pool: Pool, member: Member, why: str) -> None:
        """End a ready container once its requests have finished, and log why."""
        line = lines.system(pool.owner.scope, pool.key, member.id, f"container ends: {why}")
        self._say(line)
        member.stage = Stage.DRAINING
        pool.give_up(member.id)
        self._wake(pool)
        self._tasks.start(f"end {member.id}", self._end_gently(pool, member))

    async def _end_gently(self, pool: Pool, member: Member) -> None:
        try:
            await self._ingress.drain(pool.key, member.id)
        finally:
            self._nodes.stop(member.id)
        self._wake(pool)

    async def shrink(self, pool: Pool, surplus: int) -> None:
        """Drain so many idle containers; those of nodes with most of the pool first, so that a node's death leaves some."""
        for member in self._surplus(pool, surplus):
            await self._ingress.drain(pool.key, member.id)
            member.stage = Stage.DRAINING

    def _surplus(self, pool: Pool, count: int) -> list[Member]:
        idle = pool.idle()
        if len(self._nodes.mirrors) == 1 or count >= len(idle):
            return idle[:count]
        nodes = {name: self._nodes.of(name) for name in pool.members}
        most = Counter(nodes[m.id] for m in pool.members.values() if m.stage is Stage.READY)
        by_node: dict[Mirror | None, deque[Member]] = {}
        for member in idle:
            by_node.setdefault(nodes[member.id], deque()).append(member)
        chosen: list[Member] = []
        while by_node and len(chosen) < count:
            node = max(by_node, key=lambda node: most[node])
            chosen.append(by_node[node].popleft())
            most[node] -= 1
            if not by_node[node]:
                del by_node[node]
        return chosen

    async def cut(self, pool: Pool) -> None:
        """End a demoted pool's old containers whose drain time has passed."""
        for member in list(pool.members.values()):
            if member.before and member.stage in (Stage.READY, Stage.DRAINING):
                if member.stage is Stage.READY:
                    await self._ingress.drain(pool.key, member.id)
                member.stage, member.deadline = Stage.DRAINING, pool.cut_at

    async def wind_down(self, pool: Pool) -> None:
        """Bring a retired pool one pass closer to its end; remove it once it has no container."""
        if not pool.winding_down:
            # The load of this pass may be from before the endpoints changed.
            pool.winding_down = True
            pool.drain_until = now() + pool.drain_s
            self._wake(pool)
            return
        # A draining server takes no request from its queue, so wait until the queue is empty.
        queue_is_empty = not pool.load.queued or now() >= pool.drain_until
        for member in list(pool.members.values()):
            if member.stage in (Stage.STARTING, Stage.ATTACHING):
                self.stop(pool, member)
            elif member.stage is Stage.READY and queue_is_empty:
                await self._ingress.drain(pool.key, member.id)
                member.stage, member.deadline = Stage.DRAINING, pool.drain_until
        await self.finish(pool)
        if not pool.members:
            await self._ingress.drop(pool.key)
            if pool.retired:  # it was not revived meanwhile
                self._pools.remove(pool)
                await self._nodes.forget(pool.key)

    async def finish(self, pool: Pool) -> None:
        """Stop the draining containers whose requests have finished, or whose drain time has passed."""
        for member in list(pool.members.values()):
            if member.stage is not Stage.DRAINING:
                continue
            overdue = member.deadline is not None and now() >= member.deadline
            if overdue or (not pool.busy(member) and await self._detached(pool, member)):
                self.stop(pool, member)

    async def _detached(self, pool: Pool, member: Member) -> bool:
        detached = await self._ingress.detach(pool.key, member.id)
        if detached is not None:
            pool.detached(member.id, detached.served)
        return detached is not None

    def stop(self, pool: Pool, member: Member) -> None:
        """Stop a container at once."""
        member.stage = Stage.STOPPING
        self._nodes.stop(member.id, grace_s=SERVE_GRACE_S if pool.ephemeral else None)

    async def forget(self, pool: Pool, member: Member) -> None:
        """Remove a container that has ended from the ingress; try again until that has worked."""

        async def attempt() -> None:
            await self._ingress.lose(pool.key, member.id)
            if member.away:  # its machine does not answer, so nothing else ends the requests inside
                await self._ingress.cut(pool.key, member.id, 0.0)
            wait_s = PASS_S
            while not await self._detached(pool, member):
                await asyncio.sleep(wait_s)
                # What a visitor left behind who hung up may stay until the function's `timeout`.
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

        await retried(f"forgetting {member.id}", attempt)
