"""The control loop: starts and stops containers until each pool has as many as the autoscaler wants.

A pass runs every 50 ms, and at once when woken; while nothing is under way, when a pool is due, or after 5 s. It looks
at the pools on the `agenda`; the ingress tells when a request to another pool begins. A pass asks the
autoscaler how many containers and `room` where, and calls the node and the ingress. It looks at the
present state and not at events, and compares it with the nodes' own lists (`comparing`), so a lost event delays a change by
a few seconds. With very many containers a pass does a share of all this, and lets other work of the event loop in between.
Two changes do not wait for a pass: a container that becomes ready is attached, and one that
ends is removed. If the pass of a pool fails, the error is logged and the pool pauses; others continue.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable

from homeport.contract.container import Container, LogLine, State
from homeport.contract.errors import Failure, NodeLost, StartError
from homeport.contract.roles import Ingress
from homeport.contract.traffic import PoolKey
from homeport.control.fleet import autoscaler, lines, orders, starts
from homeport.control.fleet.agenda import Agenda
from homeport.control.fleet.calm import PASS_S
from homeport.control.fleet.comparing import Comparing
from homeport.control.fleet.draining import Draining
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.meter import Meter
from homeport.control.fleet.mirror import ENDED, Mirror
from homeport.control.fleet.naps import Naps
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool, now
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.rooms import Rooms
from homeport.state.coldstarts import ColdStart
from homeport.state.scope import Scope, Scoped
from homeport.state.secrets import SecretBox
from homeport.supervised import Tasks, supervised

EARLY_S = 1.0  # the ingress counts a request's age in whole seconds
LONGEST_PAUSE_S = 5.0  # for a pool whose passes fail
#: Containers, and nodes for each start, that are looked at before other work has its turn.
TURN = 1000
MOST_TURNS = 4  # in one pass; the other pools are in the next one
OTHERS = "other containers take the place of its own"

log = logging.getLogger(__name__)


class Reconciler:
    """Compares wanted with actual containers, and changes the actual ones.

    One class, because a pass of the loop reads and changes all of its state.
    """

    def __init__(
        self,
        pools: Pools,
        nodes: Nodes,
        ingress: Ingress,
        secrets: Scoped[SecretBox],
        *,
        key: Callable[[Scope], str],
        say: Callable[[LogLine], None],
        started: Callable[[ColdStart], None],
    ) -> None:
        self._pools = pools
        self._nodes = nodes
        self._ingress = ingress
        self._secrets = secrets
        self._key = key
        self._agenda = Agenda(pools)
        self._rooms = Rooms(
            pools,
            nodes,
            ingress,
            note=self._note,
            drained=self._agenda.note,
            under_way=self._agenda.under_way,
        )
        self.fits, self.has_places = self._rooms.fits, self._rooms.has_places
        nodes.moved = self.moved
        self._say = say
        self._started = started
        self._woken = asyncio.Event()
        self._tasks = Tasks()
        #: Returns whether an app is still being restored; its containers must not be ended.
        self.spares: Callable[[Owner], bool] = lambda _app: False
        self._draining = Draining(pools, nodes, ingress, self._tasks, say=say, wake=self.wake)
        self._comparing = Comparing(pools, nodes, self, spares=self._is_spared)
        self._spent, self._turns = 0, 0  # since other work had its turn; in this pass
        self._meter = Meter(ingress)
        self._naps = Naps(ingress, self._meter, self._agenda)
        self._pauses: dict[
            PoolKey, tuple[float, float]
        ] = {}  # failing pools: pause until, its length

    def open(self) -> None:
        """Start the control loop."""
        self._tasks.start("reconciler", supervised("reconciler", self._run))

    async def adopt(self) -> None:
        """Take over the containers of an earlier server; end those that no pool wants."""
        for container in self._nodes.containers():
            if (pool := self._wanted_by(container)) is not None:
                await self._take_over(pool, self._enlisted(pool, container), container)
            elif self.spares(_app_of(container)):
                self._comparing.spare(container)
            else:
                self._nodes.stop(container.id)
        await self._rooms.count()

    async def close(self) -> None:
        """Stop the control loop; containers stay as they are."""
        await self._tasks.close()

    def wake(self, pool: Pool | None = None) -> None:
        """Make the next pass at once, and look at this pool; None: at all pools."""
        if pool is None:
            self._agenda.note_all()
        else:
            self._agenda.note(pool)
        self._woken.set()

    def rouse(self, key: PoolKey) -> None:
        """Make the next pass at once: a request to the function has begun. The key has no class parameters."""
        for pool in self._pools.of_revision(key.app, key.revision):
            if pool.key.function == key.function and pool.members:
                self._agenda.rouse(pool)
        self._woken.set()

    def end(self, container: str) -> None:
        """End a container for the user, after its running requests; it is replaced only if demand needs it."""
        self._draining.end(container)

    def changed(self, container: Container) -> None:
        """Handle the node's report of a container's change."""
        pool = self._pools.of_container(container.id)
        if pool is None:
            return
        member = pool.members[container.id]
        if container.state is State.READY and member.stage is Stage.STARTING:
            member.stage = Stage.ATTACHING
            self._tasks.start(f"attach {member.id}", self._welcome(pool, member, container))
        elif container.state in ENDED:
            self._ended(pool, member, container)
            self.wake(pool)
        elif container.leaving and member.stage is Stage.READY:
            member.stage = Stage.DRAINING
            self._tasks.start(f"drain {member.id}", self._ingress.drain(pool.key, member.id))
            self.wake(pool)
        elif container.cuts != member.cuts:
            member.cuts = container.cuts
            age_s = pool.function.timeout_s - EARLY_S
            self._tasks.start(f"cut {member.id}", self._ingress.cut(pool.key, member.id, age_s))
        elif container.held != member.held:
            member.held = container.held
            if member.stage is not Stage.ATTACHING:  # else once the ingress has it
                self._tasks.start(f"hold {member.id}", self._hold(pool, member))

    async def step(self) -> None:
        """Make one pass over the pools on the agenda."""
        self._comparing.step(now(), at_once=self._agenda.is_whole(now()))
        if self._comparing.is_under_way:  # there are very many
            await asyncio.sleep(0)
        self._turns = 0
        looked_at = self._agenda.begin(now())
        for pool in looked_at:
            if pool.expired(now()):
                pool.retire(0.0)
        # Pools without requests and containers must not make a pass slower.
        awake = [pool for pool in looked_at if not pool.asleep]
        await self._meter.read(awake)
        for number, pool in enumerate(awake):
            await self._spend(1 + len(pool.members))
            if self._turns >= MOST_TURNS:
                left = {pool.key: pool for pool in awake[number:]}
                self._agenda.leave(left.values())
                looked_at = [pool for pool in looked_at if pool.key not in left]
                break
            until, pause_s = self._pauses.get(pool.key, (0.0, PASS_S))
            if now() < until:
                continue
            try:
                await self._decide(pool)
            except Exception:
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                log.exception("a pass over %s failed; again in %.1f s", pool.key, pause_s)
                self._pauses[pool.key] = now() + pause_s, pause_s
            else:
                self._pauses.pop(pool.key, None)
        self._pauses = {key: pause for key, pause in self._pauses.items() if self._pools.get(key)}
        self._agenda.end(looked_at, now())

    async def _decide(self, pool: Pool) -> None:
        if pool.retired:
            await self._draining.wind_down(pool)
        elif pool.members or pool.demand or pool.floor or pool.least:
            await self._scale(pool)

    def _is_spared(self, app: Owner) -> bool:
        return self.spares(app)

    async def _spend(self, cost: int) -> None:
        """Let other work of the event loop have its turn, after so much of this loop's."""
        self._spent += cost
        if self._spent >= TURN:
            self._spent = 0
            self._turns += 1
            await asyncio.sleep(0)

    def moved(self, mirror: Mirror) -> None:
        """The machine of a node does not answer: others take its containers' place. Or it does again."""
        pools: dict[PoolKey, Pool] = {}
        for name in mirror.containers:
            if (pool := self._pools.of_container(name)) is not None:
                pool.members[name].away = mirror.is_away
                pools[pool.key] = pool
        for pool in pools.values():
            if mirror.is_away:
                most = pool.bounds.max_containers
                is_full = most is not None and pool.alive + pool.away >= most
                then = (
                    "`max_containers` allows no others before it is given up" if is_full else OTHERS
                )
                self._note(pool, f"the machine of the node `{mirror.name}` does not answer: {then}")
            elif pool.open:
                pool.let_in()
            self.wake(pool)

    # what `comparing` does about a difference

    def take_in(self, container: Container) -> bool:
        """Attach a container that has no pool, if a pool wants it."""
        if (pool := self._wanted_by(container)) is None:
            return False
        member = self._enlisted(pool, container)
        self._tasks.start(f"attach {container.id}", self._take_over(pool, member, container))
        return True

    def end_unwanted(self, container: str) -> None:
        """End a container that no pool wants."""
        self._nodes.stop(container)

    def end_replaced(self, pool: Pool, member: Member) -> None:
        """End a container of a pool that another one with the same key has replaced."""
        self._draining.stop(pool, member)

    def lost(self, pool: Pool, member: Member) -> None:
        """No node has this container any more."""
        self._ended(pool, member, None)

    def _wanted_by(self, container: Container) -> Pool | None:
        """Return the pool of a container of an earlier server, or of an app that was restored."""
        if container.state is not State.READY:
            return None
        try:
            self._pools.take_in(container.order)
            pool = self._pools.called_for(container.order.pool)
        except (Failure, ValueError):
            return None
        return None if pool.retired else pool

    def _enlisted(self, pool: Pool, container: Container) -> Member:
        member = Member(id=container.id, stage=Stage.ATTACHING, held=container.held)
        self._pools.enlist(pool, member)
        self._agenda.note(pool)
        return member

    async def _run(self) -> None:
        while True:
            await self.step()
            wait_s = await self._naps.next_s(now())
            if self._comparing.is_under_way:
                wait_s = min(wait_s, PASS_S)
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
            self._woken.clear()

    async def _scale(self, pool: Pool) -> None:
        bounds, alive = pool.bounds, pool.alive
        wanted = autoscaler.wanted(bounds, pool.needed, pool.peak.at(now()))
        most = wanted
        if bounds.max_containers is not None:
            # Those on a machine that does not answer may be running, so they count until it is given up.
            most = min(wanted, bounds.max_containers - pool.away)
        pool.crowded = False  # until a start finds no place
        for _ in range(alive, most):
            if self._turns >= MOST_TURNS or not await self._begin(pool):
                break
        if alive > wanted:
            await self._draining.shrink(pool, alive - wanted)
        if pool.demoted and now() >= pool.cut_at:
            await self._draining.cut(pool)
        await self._draining.finish(pool)
        if pool.parked and pool.open:  # a released request did not use its slot
            pool.let_in()

    async def _begin(self, pool: Pool) -> bool:
        """Start one more container if there is room; return whether one was started."""
        await self._spend(len(self._nodes.mirrors))
        if not self._rooms.may_start(pool):
            return False
        place = self._rooms.place(pool)
        if place is None:
            await self._rooms.make(pool)
            return False
        try:
            environ = self._secrets.of(pool.owner.scope).environ(pool.function)
        except Failure as failure:
            self._note(pool, f"cannot start: {failure.message}")
            pool.failed(StartError(failure.message, hint=failure.hint), now())
            return False
        container, key = f"ta-{secrets.token_hex(6)}", self._key(pool.owner.scope)
        order = orders.start(pool, container, place.devices, key)
        waited_s = pool.waited_s(now())
        self._pools.enlist(pool, Member(id=order.id, begun_at=time.time(), parked_s=waited_s))
        try:
            await self._nodes.start(place.node, order, environ)
        except NodeLost as failure:  # the next pass finds another node
            self._pools.discharge(order.id)
            self._note(pool, f"a start is tried again: {failure.message}")
            self.wake(pool)
            return False
        except Exception as error:
            log.exception("cannot start a container of %s", pool.key)
            self._pools.discharge(order.id)
            self._note(pool, f"cannot start: {error}")
            pool.failed(StartError(f"the node cannot start a container: {error}"), now())
            return False
        return True

    async def _take_over(self, pool: Pool, member: Member, container: Container) -> None:
        """Attach a container of an earlier server; end it gently if its order has an outdated key."""
        await self._attach(pool, member, container)
        is_current = orders.is_current(container.order, self._key(pool.owner.scope))
        if not is_current and member.stage is Stage.READY:
            self._draining.begin_end(pool, member, "an earlier version of the server started it")

    async def _welcome(self, pool: Pool, member: Member, container: Container) -> None:
        """A container is ready: attach it to the ingress, and record its cold start."""
        since = now()
        failed = await self._attach(pool, member, container)
        if failed or member.stage is Stage.READY:
            took_ms = (now() - since) * 1000
            self._started(starts.of(container, member, took_ms, failed))

    async def _attach(self, pool: Pool, member: Member, container: Container) -> str:
        """Attach a container to the ingress; return why that failed, empty if it worked."""
        try:
            shared = not pool.function.ports  # a user's program may leave a body unread
            await self._ingress.attach(
                pool.key, member.id, container.address, pool.slots, shared=shared
            )
        except NodeLost as failure:  # `comparing` finds it again if its node comes back
            self._pools.discharge(member.id)
            self._note(pool, f"a start is tried again: {failure.message}")
            self.wake(pool)
            return ""
        except Exception as error:
            log.exception("cannot attach %s", member.id)
            self._nodes.stop(member.id)
            reason = f"the ingress did not take the container: {error}"
            self._note(pool, f"cannot start: {reason}")
            pool.failed(StartError(reason), now())
            return reason
        if member.stage is Stage.ATTACHING and member.id in pool.members:
            member.stage = Stage.READY
            pool.unsettled = True
            pool.succeeded(now())
            self.wake(pool)
            if member.held:
                await self._hold(pool, member)
        return ""

    async def _hold(self, pool: Pool, member: Member) -> None:
        """Tell the ingress how many slots of a container are held by work after their responses."""
        held = member.held
        await self._ingress.hold(pool.key, member.id, held)
        await self._nodes.confirm_held(member.id, held)
        if pool.open:
            pool.let_in()
        self.wake(pool)

    def _ended(self, pool: Pool, member: Member, container: Container | None) -> None:
        """A container has ended; None: the node does not know it any more."""
        self._pools.discharge(member.id)
        if member.stage in (Stage.ATTACHING, Stage.READY, Stage.DRAINING):
            self._tasks.start(f"forget {member.id}", self._draining.forget(pool, member))
        was_asked = member.stage in (Stage.STOPPING, Stage.DRAINING)
        if was_asked:
            return
        failed = container is not None and container.state is State.FAILED
        lost = container is not None and container.state is State.LOST
        if not pool.function.single_use or failed or lost or container is None:
            self._say(lines.system(pool.owner.scope, pool.key, member.id, lines.ended(container)))
        if failed or (member.stage is Stage.STARTING and not lost):
            reason = "the container ended before it was ready"
            traceback = ""
            if container is not None:
                reason, traceback = container.reason or reason, container.traceback
                self._started(starts.of(container, member, None, reason))
            pool.failed(StartError(reason, traceback=traceback), now())

    def _note(self, pool: Pool, text: str) -> None:
        self._say(lines.system(pool.owner.scope, pool.key, "", text))


def _app_of(container: Container) -> Owner:
    """Return the deployed app that a container is of, if it is of one."""
    return Owner.app(container.order.within, container.order.pool.app)
