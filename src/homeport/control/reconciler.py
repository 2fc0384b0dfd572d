"""Makes it so: compares what is wanted with what is, for every pool, every 50 ms or at once.

The one loop of the control plane. It asks the autoscaler how many and the scheduler where, and
tells the node and the ingress. Level-triggered: a pass looks at what is and never at what
happened, so a missed event costs one pass and no more. Only getting ready is done at once, because
a visitor waits for it.
"""

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Collection

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, ContainerSpec, LogLine, State
from homeport.contract.errors import Failure, PortTaken, StartError
from homeport.contract.roles import Ingress, Node
from homeport.contract.traffic import Load, PoolKey
from homeport.control import autoscaler, coldstarts, scheduler
from homeport.control.coldstarts import ColdStart
from homeport.control.pools import Member, Pool, Pools, Stage, now
from homeport.control.secretbox import SecretBox

PASS_S = 0.05
IDLE_PASS_S = 5.0  # with no container anywhere there is nothing to measure
SERVE_GRACE_S = 1.0  # what a `serve` session's containers get once they are asked to stop

log = logging.getLogger(__name__)


class Reconciler:
    """Wanted against actual."""

    def __init__(
        self,
        pools: Pools,
        node: Node,
        ingress: Ingress,
        secret_box: SecretBox,
        *,
        max_containers: int,
        say: Callable[[LogLine], None],
        started: Callable[[ColdStart], None],
    ) -> None:
        self._pools = pools
        self._node = node
        self._ingress = ingress
        self._secrets = secret_box
        self._max_containers = max_containers
        self._say = say
        self._started = started
        self._woken = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._attaching: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to make it so."""
        self._loop = asyncio.create_task(self._run(), name="reconciler")

    async def adopt(self) -> None:
        """Take the containers of an earlier server over; end those that nobody wants any more."""
        for container in list(self._node.list()):
            try:
                pool = self._pools.called_for(PoolKey.parse(container.spec.pool))
            except Failure:
                self._node.stop(container.spec.id)
                continue
            member = Member(id=container.spec.id, stage=Stage.ATTACHING)
            self._pools.enlist(pool, member)
            await self._attach(pool, member, container)

    async def close(self) -> None:
        """Stop deciding; containers stay as they are."""
        for task in (self._loop, *self._attaching):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def wake(self) -> None:
        """Look again at once."""
        self._woken.set()

    def changed(self, container: Container) -> None:
        """The node's word on one of its containers."""
        pool = self._pools.of_container(container.spec.id)
        if pool is None:
            return
        member = pool.members[container.spec.id]
        if container.state is State.READY and member.stage is Stage.STARTING:
            member.stage = Stage.ATTACHING
            self._spawn(self._welcome(pool, member, container))
        elif container.state in (State.FAILED, State.GONE):
            self._ended(pool, member, container)
            self.wake()

    async def step(self) -> None:
        """One pass over every pool that has something to decide."""
        # A pass must not cost more for endpoints that nobody asks.
        awake = [pool for pool in self._pools if not pool.asleep]
        await self._measure(awake)
        for pool in awake:
            if pool.retired:
                await self._wind_down(pool)
            elif pool.members or pool.demand or pool.floor or pool.function.min_containers:
                await self._scale(pool)

    async def _run(self) -> None:
        while True:
            try:
                await self.step()
            except Exception:
                log.exception("a pass failed; the next one looks again")
            busy = any(p.members or p.retired or p.unsettled for p in self._pools)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PASS_S if busy else IDLE_PASS_S):
                    await self._woken.wait()
            self._woken.clear()

    async def _measure(self, pools: Collection[Pool]) -> None:
        attached = [p for p in pools if p.count(Stage.READY, Stage.DRAINING) or p.unsettled]
        loads = await self._ingress.load([pool.key for pool in attached]) if attached else {}
        for pool in pools:
            before, pool.load = pool.load, loads.get(pool.key, _unseen(pool.load))
            if not pool.members:
                # What is still queued where the last container was is demand too.
                pool.unsettled = pool.load.running + pool.load.queued > 0
            # A request that came and went between two passes was demand too.
            passed = int(pool.load.served > before.served)
            pool.peak.record(max(pool.demand, passed), now())

    async def _scale(self, pool: Pool) -> None:
        wanted = autoscaler.wanted(pool.bounds, pool.demand, pool.peak.at(now()))
        alive = pool.count(Stage.STARTING, Stage.ATTACHING, Stage.READY)
        for _ in range(alive, wanted):
            if not self._begin(pool):
                await self._make_room(pool)
                break
        if alive > wanted:
            await self._shrink(pool, alive - wanted)
        if pool.demoted and now() >= pool.cut_at:
            await self._cut(pool)
        await self._finish_draining(pool)

    async def _shrink(self, pool: Pool, surplus: int) -> None:
        for member in pool.idle()[:surplus]:
            member.stage = Stage.DRAINING
            await self._ingress.drain(pool.key, member.id)

    async def _cut(self, pool: Pool) -> None:
        """End what served before a newer version did and has had its time."""
        for member in pool.members.values():
            if member.before and member.stage in (Stage.READY, Stage.DRAINING):
                if member.stage is Stage.READY:
                    await self._ingress.drain(pool.key, member.id)
                member.stage, member.deadline = Stage.DRAINING, pool.cut_at

    async def _wind_down(self, pool: Pool) -> None:
        if not pool.winding_down:
            pool.winding_down = True  # this pass may have measured before traffic moved away
            pool.drain_until = now() + pool.drain_s
            self.wake()
            return
        # A draining server takes nothing from its queue, so the queue has to empty first.
        queue_is_empty = not pool.load.queued or now() >= pool.drain_until
        for member in list(pool.members.values()):
            if member.stage in (Stage.STARTING, Stage.ATTACHING):
                self._stop(pool, member)
            elif member.stage is Stage.READY and queue_is_empty:
                member.stage = Stage.DRAINING
                member.deadline = pool.drain_until
                await self._ingress.drain(pool.key, member.id)
        await self._finish_draining(pool)
        if not pool.members:
            await self._ingress.drop(pool.key)
            self._pools.remove(pool)
            self._node.forget(str(pool.key))

    async def _finish_draining(self, pool: Pool) -> None:
        for member in list(pool.members.values()):
            if member.stage is not Stage.DRAINING:
                continue
            overdue = member.deadline is not None and now() >= member.deadline
            busy = pool.load.per_container.get(member.id, 0) > 0
            if overdue or (not busy and await self._ingress.detach(pool.key, member.id)):
                self._stop(pool, member)

    def _stop(self, pool: Pool, member: Member) -> None:
        member.stage = Stage.STOPPING
        self._node.stop(member.id, grace_s=SERVE_GRACE_S if pool.ephemeral else None)

    def _begin(self, pool: Pool) -> bool:
        """Start one more container, unless something stands against it now."""
        if now() < pool.retry_at:
            return False
        if (port := pool.function.port) is not None and not self._port_is_free(pool, port):
            return False
        place = self._place(pool)
        if place is None:
            return False
        try:
            environ = self._secrets.environ(pool.function)
        except Failure as failure:
            pool.failed(StartError(failure.message, hint=failure.hint), now())
            return False
        spec = container_spec(pool, f"ta-{secrets.token_hex(6)}", place.devices)
        waited_s = pool.waited_s(now())
        self._pools.enlist(pool, Member(id=spec.id, begun_at=time.time(), parked_s=waited_s))
        self._node.start(spec, environ)
        return True

    def fits(self, pools: Collection[Pool]) -> bool:
        """Whether there is room for one more container of each of them, beside all that run."""
        capacity = self._node.capacity()
        room = self._room(capacity)
        for pool in pools:
            needs = scheduler.needs(pool.function, capacity)
            place = scheduler.place([room], needs)
            if place is None:
                return False
            room = scheduler.less(room, needs, place)
        return True

    def _room(self, capacity: Capacity) -> scheduler.Room:
        there = [container.spec for container in self._node.list()]
        return scheduler.room("here", capacity, there, self._max_containers)

    def _place(self, pool: Pool) -> scheduler.Place | None:
        """Where the pool's next container goes; what it waits for is said once."""
        capacity = self._node.capacity()
        if not pool.ephemeral and (why := scheduler.impossible(pool.function, capacity)):
            pool.failed(StartError(f"`{pool.function.name}` {why}"), now())
            return None
        needs, room = scheduler.needs(pool.function, capacity), self._room(capacity)
        lacks = scheduler.lack(room, needs)
        if lacks and not pool.lacks:
            self._say(_system_line(pool.key, "", f"waits for {lacks}"))
        pool.lacks = lacks
        return scheduler.place([room], needs)

    async def _make_room(self, pool: Pool) -> None:
        """Let an idle container of another pool go, if it has what this one waits for."""
        capacity = self._node.capacity()
        needs, room = scheduler.needs(pool.function, capacity), self._room(capacity)
        if not scheduler.lack(room, needs):
            return  # it is something else that it waits for
        helping = {
            container.spec.id
            for container in self._node.list()
            if scheduler.helps(container.spec, room, needs, capacity)
        }
        if any(helping & {*other.leaving()} for other in self._pools):
            return  # there will be room
        for other in self._pools:
            # One that a deploy has proved may go: an app may have more functions than there is room.
            if other is pool or other.demand or len(other.idle()) <= other.function.min_containers:
                continue
            for member in other.idle():
                if member.id in helping:
                    other.rest()
                    member.stage = Stage.DRAINING
                    await self._ingress.drain(other.key, member.id)
                    return

    def _port_is_free(self, pool: Pool, port: int) -> bool:
        holder = self._pools.holder_of_port(port)
        if holder is None:
            return True
        if (holder.owner, holder.key.function) != (pool.owner, pool.key.function):
            owner = f"`{holder.key.function}` of the app `{holder.key.app}`"
            pool.refuse(PortTaken(f"port {port} belongs to {owner}"))
        return False

    async def _welcome(self, pool: Pool, member: Member, container: Container) -> None:
        """A container is ready: let requests in, and keep how long it took."""
        since = now()
        failed = await self._attach(pool, member, container)
        if failed or member.stage is Stage.READY:
            took_ms = (now() - since) * 1000
            self._started(coldstarts.of(container, member, took_ms, failed))

    async def _attach(self, pool: Pool, member: Member, container: Container) -> str:
        """Why the ingress did not take it; empty when all is well."""
        try:
            slots = 1 if pool.function.single_use else pool.function.max_inputs
            await self._ingress.attach(pool.key, member.id, container.address, slots)
        except Exception as error:
            log.exception("cannot attach %s", member.id)
            self._node.stop(member.id)
            reason = f"the ingress did not take the container: {error}"
            pool.failed(StartError(reason), now())
            return reason
        if member.stage is Stage.ATTACHING and member.id in pool.members:
            member.stage = Stage.READY
            pool.unsettled = True
            pool.succeeded(now())
            self.wake()
        return ""

    def _ended(self, pool: Pool, member: Member, container: Container) -> None:
        self._pools.discharge(member.id)
        if member.stage in (Stage.ATTACHING, Stage.READY, Stage.DRAINING):
            self._spawn(self._forget(pool, member))
        asked = member.stage in (Stage.STOPPING, Stage.DRAINING)
        if asked:
            return
        if not pool.function.single_use or container.state is State.FAILED:
            self._say(_obituary(container))
        if container.state is State.FAILED or member.stage is Stage.STARTING:
            reason = container.reason or "the container ended before it was ready"
            pool.failed(StartError(reason, traceback=container.traceback), now())
            self._started(coldstarts.of(container, member, None, reason))

    async def _forget(self, pool: Pool, member: Member) -> None:
        await self._ingress.lose(pool.key, member.id)
        while not await self._ingress.detach(pool.key, member.id):
            await asyncio.sleep(PASS_S)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)


def container_spec(pool: Pool, container: str, devices: tuple[str, ...] = ()) -> ContainerSpec:
    """What the node needs to know to start one more container of a pool."""
    spec = pool.function
    return ContainerSpec(
        id=container,
        app=pool.key.app,
        function=spec.name,
        revision=pool.key.revision,
        pool=str(pool.key),
        module=spec.module,
        qualname=spec.qualname,
        is_class=spec.is_class,
        web=spec.web,
        parameters=pool.parameters,
        image=spec.image,
        source=pool.source,
        max_inputs=spec.max_inputs,
        single_use=spec.single_use,
        timeout_s=spec.timeout_s,
        startup_timeout_s=spec.startup_timeout_s,
        urls=pool.urls,
        enable_memory_snapshot=spec.enable_memory_snapshot,
        cpu=spec.cpu,
        memory_mib=spec.memory_mib,
        ephemeral_disk_mib=spec.ephemeral_disk_mib,
        gpu=spec.gpu,
        devices=devices,
    )


def _unseen(load: Load) -> Load:
    """A pool without containers: nothing runs, but its counters do not go back."""
    return dataclasses.replace(load, running=0, queued=0, per_container={})


def _obituary(container: Container) -> LogLine:
    key = PoolKey.parse(container.spec.pool)
    told = f"container {container.state.value}: {container.reason or 'it ended'}"
    return _system_line(key, container.spec.id, told)


def _system_line(key: PoolKey, container: str, text: str) -> LogLine:
    return LogLine(
        at=time.time(),
        app=key.app,
        function=key.function,
        container=container,
        text=text,
        source="system",
    )
