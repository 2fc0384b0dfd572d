"""The control plane's copy of one node: its containers, its machine's resources, and whether it answers.

A node numbers its changes (contract/listing.py). The mirror applies changes in the order of their numbers. It
asks for the whole list at the beginning, after a gap, after the node's agent was started again, and when the
node answers after a silence.

A node that does not answer is *suspect*: nothing new is started there, and its containers still answer
requests. If its machine does not answer either, it is *away*: others take its containers' place, which serve again
as soon as it answers. After `gone_s` it is *gone*: its containers count as lost, and none comes back. If it
answers later, it is first fenced: it stops all containers that were ordered before it was given up, and these
are never in the list again. What is fenced is stored first, so that it holds after a restart of the control plane.
"""

import asyncio
import dataclasses
import enum
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

from homeport.contract.capacity import Capacity, Usage
from homeport.contract.container import Container, LogLine, StartOrder, State
from homeport.contract.errors import Failure, NodeLost
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order, Program
from homeport.contract.roles import Node
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import PoolKey
from homeport.control.fleet import looking
from homeport.control.fleet.past import Past
from homeport.control.fleet.stock import Stock

BEAT_S = 1.0  # between two checks that the node answers
ANSWER_S = 2.0  # a node that takes longer for a short question does not answer
GONE_S = 10.0
ENDED = (State.FAILED, State.GONE, State.LOST)

T = TypeVar("T")
log = logging.getLogger(__name__)


class Health(enum.StrEnum):
    """Says whether a node answers."""

    READY = "ready"
    SUSPECT = "suspect"
    GONE = "gone"


class Mirror:
    """One node's state at its last answer; one class, because its list, its health and the calls to it depend on each other."""

    def __init__(
        self,
        node: Node,
        *,
        changed: Callable[[Container], None],
        on_line: Callable[[LogLine], None],
        answers: Callable[[], None] = lambda: None,  # called when it answers after a silence
        moved: Callable[["Mirror"], None] = lambda _mirror: None,  # called when `is_away` changed
        where: "dict[str, Mirror] | None" = None,  # of each container; all mirrors share it
        gone_s: float = GONE_S,
        past: Past | None = None,
    ) -> None:
        self.name = node.name
        self._past = past or Past()
        self.health = (
            Health.GONE if self._past.away else Health.SUSPECT
        )  # until it has sent its list
        self.capacity: Capacity | None = None  # None: it has never answered
        self.is_away = False  # its machine does not answer, and it is not given up
        self.drained = False  # it gets no new containers
        self.labels: Mapping[str, str] = {}  # such as its region
        self.round_trip_s: float | None = None  # of the last beat
        self._region: str | None = None
        self.containers: dict[str, Container] = {}
        self._node = node
        self._changed = changed
        self._answers, self._moved = answers, moved
        self._where = {} if where is None else where
        self._gone_s = gone_s
        self._generation = self._past.generation  # the generation of its orders
        self._mark: Mark | None = None  # None: the list has to be asked for
        self._early: list[Change] | None = None  # changes that arrived while the list was asked for
        self._syncing = asyncio.Lock()
        self._silent_since: float | None = None
        self._look = asyncio.Event()
        self.changes = 0  # of the list: a room that was counted before one is not right any more
        self.counted: Any = None  # by `rooms`, which keeps its room here
        #: Containers that were asked to stop and have not ended.
        self._stops: dict[str, float | None] = {}
        self._calls: set[asyncio.Task[Any]] = set()  # calls that wait for an answer without a limit
        self.stock = Stock()
        node.watch(self._hear, on_line)

    @property
    def state(self) -> str:
        """Its health, or `drained` if it answers and gets no new containers."""
        return "drained" if self.drained and self.health is Health.READY else str(self.health)

    @property
    def takes(self) -> bool:
        """Whether it may get containers: it has places for them, and is not drained."""
        return not self.drained and self.capacity is not None and self.capacity.places > 0

    def locate(self, region: str | None) -> None:
        """Set the region for its containers, as `Capacity.region`."""
        self._region = region
        if self.capacity is not None:
            self.capacity = dataclasses.replace(self.capacity, region=region)

    # its list

    def _hear(self, change: Change) -> None:
        if self._early is not None:
            self._early.append(change)
        elif self._mark is None or self.health is Health.GONE:
            pass  # the list will have it
        elif change.mark.run != self._mark.run or change.mark.number > self._mark.number + 1:
            self._mark = None
            self._look.set()
        elif change.mark.number == self._mark.number + 1:
            self._mark = change.mark
            self._put(change.container)

    def _put(self, container: Container) -> None:
        if container.order.generation < self._generation:
            return  # it was ordered before the node was given up: the node ends it
        self.changes += 1
        container = self._as_drained(container)
        if container.state in ENDED:
            self._drop(container.id)
            self._stops.pop(container.id, None)
        else:
            self.containers[container.id] = container
            self._where[container.id] = self
        if container.state is State.READY:
            self.stock.warm(container.order.pool)
        self._changed(container)

    def _as_drained(self, container: Container) -> Container:
        """Return a container as one that leaves, if the node is drained."""
        if not self.drained or container.state is not State.READY or container.leaving:
            return container
        return dataclasses.replace(container, leaving=True, reason="its node is drained")

    def _drop(self, container: str) -> None:
        self.containers.pop(container, None)
        if self._where.get(container) is self:
            del self._where[container]

    async def sync(self) -> None:
        """Ask for the whole list; raises `NodeLost` if there is no answer."""
        async with self._syncing:
            before, self._early = set(self.containers), []
            try:
                listing = await self._answer(self._node.list())
                if listing.generation < self._generation:
                    await self._answer(self._node.fence(self._generation))
                if self.health is Health.GONE and not await self._note(
                    self._generation, away=False
                ):
                    raise NodeLost(f"that the node `{self.name}` is back cannot be stored")
            finally:
                early, self._early = self._early, None
                self._mark = None
            self._take(listing, before)
            for change in early:
                self._hear(change)
            for container, grace_s in list(self._stops.items()):
                await self.stop(container, grace_s)

    def _take(self, listing: Listing, before: set[str]) -> None:
        """Replace the list; `before` are the containers that were known when it was asked for."""
        was_silent = self.health is not Health.READY
        self.health, self._silent_since = Health.READY, None
        self._mark = listing.mark
        self.capacity = dataclasses.replace(listing.capacity, region=self._region)
        self._generation = max(self._generation, listing.generation)
        listed = {container.id for container in listing.containers}
        for name in before - listed:
            if (ended := self.containers.get(name)) is not None:
                why = "the node does not know it any more"
                self._put(dataclasses.replace(ended, state=State.GONE, reason=why))
        for container in listing.containers:
            if self.containers.get(container.id) != self._as_drained(container):
                self._put(container)
        if was_silent:
            log.info("the node `%s` answers", self.name)
            self._set_away(False)
            self._answers()

    # whether it answers

    async def watch_over(self) -> None:
        """Check regularly that the node answers; an endless loop."""
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_later(BEAT_S, self._look.set)
            await self._look.wait()
            timer.cancel()
            self._look.clear()
            await self.beat()

    async def beat(self) -> None:
        """Check once, and ask for the list if changes were missed."""
        try:
            began = asyncio.get_running_loop().time()
            mark = await self._ask_mark()
            self.round_trip_s = asyncio.get_running_loop().time() - began
            if mark != self._mark or self.health is not Health.READY:
                await self.sync()
        except NodeLost:
            since, now = self._silent_since, asyncio.get_running_loop().time()
            is_over = since is not None and now - since >= self._gone_s
            if self.health is Health.SUSPECT and is_over:
                await self.forfeit()

    async def _ask_mark(self) -> Mark:
        at_machine = self.health is not Health.GONE and not self.is_away
        mark, lives = await looking.look(self._node, at_machine=at_machine)
        if mark is None:
            self._silent()
            self._set_away(self.is_away or not lives)
            raise NodeLost(f"the node `{self.name}` does not answer")
        return mark

    def _set_away(self, is_away: bool) -> None:
        if self.is_away is not is_away and (not is_away or self.health is Health.SUSPECT):
            self.is_away = is_away
            self._moved(self)

    def refresh(self) -> None:
        """Ask for the whole list soon: the node's capacity is another one."""
        self._mark = None
        self.look()

    def look(self) -> None:
        """Check at once that the node answers."""
        self._look.set()

    async def forfeit(self) -> None:
        """Give it up, after it is stored that its containers are fenced; if that fails, it is not given up yet."""
        if await self._note(self._generation + 1, away=True) and self.health is not Health.GONE:
            self.give_up()

    async def _note(self, generation: int, *, away: bool) -> bool:
        """Store what is fenced; return whether that worked."""
        try:
            await self._past.note(generation, away)
        except Failure as failure:
            log.warning(
                "what is fenced on the node `%s` is not stored: %s", self.name, failure.message
            )
            return False
        return True

    async def _answer(self, question: Coroutine[Any, Any, T]) -> T:
        """Return the answer to a short question."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question
        except TimeoutError:
            self._silent()
            raise NodeLost(f"the node `{self.name}` does not answer") from None
        except NodeLost:
            self._silent()
            raise

    def _silent(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        if self.health is Health.READY:
            self.health = Health.SUSPECT
            log.warning("the node `%s` does not answer", self.name)

    def give_up(self) -> None:
        """Take all its containers as lost; when it answers again, it is fenced first."""
        log.warning("the node `%s` is given up: its containers are replaced", self.name)
        self.health, self._mark, self.is_away = Health.GONE, None, False
        lost = dict(self.containers)
        for container_id in lost:
            self._drop(container_id)
        self.changes += 1
        self._generation += 1
        self._stops.clear()
        self.stock.cool()
        why = f"its node `{self.name}` does not answer"
        for container in lost.values():
            self._changed(dataclasses.replace(container, state=State.LOST, reason=why))
        for call in self._calls:
            call.cancel()

    # what is asked of it

    async def start(self, order: StartOrder, environ: Mapping[str, str]) -> None:
        """Start a container; it is in the list at once."""
        order = dataclasses.replace(order, generation=self._generation)
        container = Container(
            order=order, state=State.STARTING, node=self.name, started_at=time.time()
        )
        self.containers[order.id] = container
        self._where[order.id] = self
        self.changes += 1
        try:
            await self._node.start(order, environ)
        except BaseException as error:
            self.changes += 1
            self._drop(order.id)
            if isinstance(error, NodeLost):
                self._silent()
            raise

    async def stop(self, container: str, grace_s: float | None) -> None:
        """Stop a container; if the node does not answer, ask it again as soon as it does."""
        if container in self.containers:
            self._stops[container] = grace_s
        try:
            await self._node.stop(container, grace_s=grace_s)
        except NodeLost:
            self._silent()

    def leave(self) -> None:
        """Have its containers end after their requests: they are not asked to here, because then they close WebSockets."""
        for container in list(self.containers.values()):
            self._put(container)

    async def execute(self, container: str, order: Order, environ: Mapping[str, str]) -> Program:
        """Run a program in a container there."""
        return await self._long(self._node.execute(container, order, environ))

    async def usage(self) -> Mapping[str, Usage]:
        """Return the resources that each container there uses."""
        return await self._answer(self._node.usage())

    async def confirm_held(self, container: str, held: int) -> None:
        """Tell a container that the ingress keeps this many of its slots back."""
        await self._short(self._node.confirm_held(container, held))

    async def forget(self, pool: PoolKey) -> None:
        """Release the resources that are kept for the pool's next container."""
        self.stock.cool(pool)
        await self._short(self._node.forget(pool))

    async def rest(self, unused_s: float) -> None:
        """Release what was kept for next containers there, and was not used for so long."""
        await self._short(self._node.rest(unused_s))

    async def prepare(
        self, image: Image, source: str, supplies: Supplies, say: Callable[[str], None]
    ) -> None:
        """Build the image's layers there."""
        with self.stock.built(image):
            await self._long(self._node.prepare(image, source, supplies, say))

    async def environments(self) -> Collection[Environment]:
        """Return the layers that were built there."""
        return await self._answer(self._node.environments())

    async def build_log(self, key: str) -> str | None:
        """Return the output of a layer's build there."""
        return await self._answer(self._node.build_log(key))

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Delete the layers that none of these images needs."""
        self.stock.keep(keep)
        return await self._long(self._node.prune(keep))

    async def _short(self, call: Coroutine[Any, Any, None]) -> None:
        """Make a call that may be lost if the node does not answer."""
        try:
            await call
        except NodeLost:
            self._silent()

    async def _long(self, call: Coroutine[Any, Any, T]) -> T:
        """Return the answer to a call without a time limit, while the node answers other calls."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self.health is Health.GONE and task.cancelled():
                raise NodeLost(f"the node `{self.name}` does not answer") from None
            raise
        except NodeLost:
            self._silent()
            raise
        finally:
            self._calls.discard(task)
