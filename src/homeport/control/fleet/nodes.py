"""All nodes as one: a single list of their containers, and calls that find the right node.

The list is a copy in memory (see `mirror`), so reading it is fast and never waits.
"""

import asyncio
import bisect
import contextlib
import dataclasses
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NoReturn

from homeport.contract.capacity import Capacity, Usage
from homeport.contract.container import Container, LogLine, StartOrder
from homeport.contract.errors import Failure, NodeLost, NotFound
from homeport.contract.image import Environment, Image
from homeport.contract.labels import REGION
from homeport.contract.output import PASSING, STEP
from homeport.contract.programs import Order, Program
from homeport.contract.roles import Node
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.addable import Addable
from homeport.control.fleet.mirror import GONE_S, Health, Mirror
from homeport.control.fleet.past import Past
from homeport.supervised import Tasks, supervised

OWN = "here"  # the name of the node that this machine is
MOST_ELSEWHERE = 20_000  # containers of other machines that are remembered
TURN = 50  # nodes that are told something before others on the event loop have their turn
LEAST_MORE_S = 0.5  # that a deploy waits for the other nodes, after one has built its image

log = logging.getLogger(__name__)


class Nodes:
    """The nodes of one control plane; in one class, because all of it reads and changes the same mirrors."""

    def __init__(
        self, nodes: Iterable[Node], *, on_line: Callable[[LogLine], None], gone_s: float = GONE_S
    ) -> None:
        self._hear: Callable[[Container], None] = lambda _container: None
        self.returned: Callable[[], None] = lambda: (
            None
        )  # called when a node answers after a silence
        #: Called when the machine of a node does not answer, and when it does again.
        self.moved: Callable[[Mirror], None] = lambda _mirror: None
        self.addable = Addable()  # what Ray could add, if there is a Ray cluster
        self.mirrors: dict[str, Mirror] = {}
        self._elsewhere: OrderedDict[str, str] = OrderedDict()  # container of another machine -> it
        self._by_name: list[Mirror] = []  # in the order of their names
        self._where: dict[str, Mirror] = {}  # of each container
        self._came = asyncio.Event()  # a node has sent its list
        self._on_line, self._gone_s = on_line, gone_s
        self._tasks = Tasks()
        self._watching: dict[str, asyncio.Future[NoReturn]] = {}
        for node in nodes:
            self._add(node)

    def watch(self, changed: Callable[[Container], None]) -> None:
        """Call `changed` on each change of a container from now on; a lost container ends with `State.LOST`."""
        self._hear = changed

    async def open(self) -> None:
        """Ask each node for its list, and again if it does not answer."""
        for mirror in self.mirrors.values():
            await mirror.beat()
            self._watch_over(mirror)

    def add(
        self,
        node: Node,
        *,
        drained: bool = False,
        past: Past | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Mirror:
        """Have one more node from now on; a drained one gets no containers."""
        mirror = self._add(node, past)
        mirror.drained = drained
        self.label(node.name, labels or {})
        self._watch_over(mirror)
        return mirror

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Use other labels of a node from now on; an unknown one is ignored."""
        if name in self.mirrors:
            self.mirrors[name].labels = labels
            self._locate()
            self.returned()

    def _locate(self) -> None:
        """Tell each node its region: as soon as one has a region, a node without one is in none."""
        has_regions = any(REGION in mirror.labels for mirror in self.mirrors.values())
        for mirror in self.mirrors.values():
            mirror.locate(mirror.labels.get(REGION, "") if has_regions else None)

    async def arrived(self, within_s: float) -> None:
        """Wait until each node has sent its list; one that takes longer is given up, so that it is fenced when it comes.

        A node that was given up before is not waited for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._awaited():
                    self._came.clear()
                    await self._came.wait()
        for mirror in self._awaited():
            await mirror.forfeit()

    def _awaited(self) -> list[Mirror]:
        mirrors = self.mirrors.values()
        return [m for m in mirrors if m.capacity is None and m.health is Health.SUSPECT]

    async def drain(self, name: str, *, on: bool) -> None:
        """Start nothing new on a node, and replace its containers; or take it back into use."""
        mirror = self.mirrors[name]
        mirror.drained = on
        if on:
            mirror.leave()
        else:
            self.returned()

    def remove(self, name: str) -> None:
        """Forget a node; its containers are replaced. An unknown one is ignored."""
        if (mirror := self.mirrors.pop(name, None)) is not None:
            self._by_name.remove(mirror)
            if (watching := self._watching.pop(name, None)) is not None:
                watching.cancel()
            mirror.give_up()
            self._locate()
            self._came.set()

    async def close(self) -> None:
        """Stop asking; the containers continue."""
        await self._tasks.close()

    def containers(self) -> list[Container]:
        """Return all containers of all nodes that are not given up."""
        return [c for mirror in self.mirrors.values() for c in mirror.containers.values()]

    def of(self, container: str) -> Mirror | None:
        """Return the node that has a container; None if no node has it."""
        return self._where.get(container)

    def holder_of(self, container: str) -> str | None:
        """Return the name of the node that has a container; None if no node has it."""
        mirror = self.of(container)
        return None if mirror is None else mirror.name

    def ready(self) -> list[Mirror]:
        """Return the nodes that answer, in the order of their names."""
        return [mirror for mirror in self._by_name if mirror.health is Health.READY]

    def taking(self) -> list[Mirror]:
        """Return the nodes that answer and may get containers, in the order of their names."""
        return [mirror for mirror in self.ready() if mirror.takes]

    def gone(self) -> list[str]:
        """Return the names of the nodes that were given up, but of those that were drained before."""
        return sorted(
            mirror.name
            for mirror in list(self.mirrors.values())  # alerts ask in a thread
            if mirror.health is Health.GONE and not mirror.drained
        )

    def capacities(self) -> list[Capacity]:
        """Return the resources of the nodes that may get containers and are not given up."""
        return [
            mirror.capacity
            for mirror in self.mirrors.values()
            if mirror.capacity is not None and mirror.takes and mirror.health is not Health.GONE
        ]

    async def start(self, node: str, order: StartOrder, environ: Mapping[str, str]) -> None:
        """Start a container on a node; `NodeLost` if the node does not answer."""
        mirror = self.mirrors[node]
        order = dataclasses.replace(order, region=mirror.labels.get(REGION, ""))
        await mirror.start(order, environ)

    def stop(self, container: str, *, grace_s: float | None = None) -> None:
        """Stop a container; if its node does not answer, ask it again as soon as it does."""
        if (mirror := self.of(container)) is not None:
            self._tasks.start(f"stop {container}", mirror.stop(container, grace_s))

    async def execute(self, container: str, order: Order, environ: Mapping[str, str]) -> Program:
        """Run a program in a container; `NotFound` if no node has it."""
        if (mirror := self.of(container)) is None:
            raise NotFound(
                f"there is no container `{container}`",
                hint="`homeport container list` has those that run",
            )
        return await mirror.execute(container, order, environ)

    async def usage(self) -> dict[str, Usage]:
        """Return the resources that each container uses, by its id, of the nodes that answer."""

        async def ask(mirror: Mirror) -> Mapping[str, Usage]:
            try:
                return await mirror.usage()
            except NodeLost:  # the mirror has noted it
                return {}

        # All at once, so one that does not answer holds up no other.
        usages = await asyncio.gather(*map(ask, self.ready()))
        return {container: used for usage in usages for container, used in usage.items()}

    async def confirm_held(self, container: str, held: int) -> None:
        """Tell a container that the ingress keeps `held` of its slots back."""
        if (mirror := self.of(container)) is not None:
            await mirror.confirm_held(container, held)

    async def forget(self, pool: PoolKey) -> None:
        """Tell all nodes that no container of this pool will be started again."""
        for number, mirror in enumerate(self.ready()):
            await mirror.forget(pool)
            if number % TURN == TURN - 1:
                await asyncio.sleep(0)

    async def rest(self, unused_s: float) -> None:
        """Tell all nodes that no app serves: what they keep for next containers may go, if it was not used for so long."""
        for mirror in self.ready():
            await mirror.rest(unused_s)

    async def prepare(
        self,
        image: Image,
        source: str,
        supplies: Supplies,
        say: Callable[[str], None],
        *,
        suits: Callable[[Capacity], bool] = lambda _capacity: True,
        everywhere: bool = False,
    ) -> None:
        """Build the image's layers on the nodes that may get containers.

        Returns when a node has them for which `suits` is true; the others get a quarter of the time more. They are
        cancelled then: `lack` says that a node lacks the image. With `everywhere` it waits for all of them.
        Raises `NodeLost` if none answers, and the failure of one if all have failed.
        """
        ready = self.taking()
        if supplies.volumes:  # which a step can have only where they are
            ready = [m for m in ready if m.capacity and m.capacity.has_mounts] or ready

        async def prepare(mirror: Mirror) -> None:
            def pass_on(line: str) -> None:
                is_whole = len(ready) == 1 or line.startswith((PASSING, STEP))
                say(line if is_whole else f"{mirror.name}: {line}")

            await mirror.prepare(image, source, supplies, pass_on)

        if not ready:
            raise NodeLost("no node answers")
        able = [m for m in ready if m.capacity is not None and suits(m.capacity)] or ready
        builds = {asyncio.create_task(prepare(mirror)): mirror for mirror in ready}
        try:
            await _some(builds, {m.name for m in able}, everywhere=everywhere)
        finally:
            for build in builds:
                build.cancel()
            await asyncio.gather(*builds, return_exceptions=True)

    def lack(self, image: Image) -> bool:
        """Return whether a node that may get containers lacks the image, because it did not answer while the image was built."""
        if not image.has_environment:
            return False
        key = image.key  # a hash, for perhaps a thousand nodes
        return any(not mirror.stock.has_built(key) for mirror in self.taking())

    async def environments(self) -> Collection[Environment]:
        """Return the layers that were built on the nodes that answer."""
        return [layer for mirror in self.ready() for layer in await mirror.environments()]

    async def build_log(self, key: str) -> str | None:
        """Return the output of a layer's build, from the first node that has it."""
        for mirror in self.ready():
            if (text := await mirror.build_log(key)) is not None:
                return text
        return None

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Delete the layers that none of these images needs, on each node that answers."""
        return [layer for mirror in self.ready() for layer in await mirror.prune(keep)]

    def _add(self, node: Node, past: Past | None = None) -> Mirror:
        mirror = self.mirrors[node.name] = Mirror(
            node,
            changed=self._changed,
            on_line=self._on_line,
            answers=self._answers,
            moved=self._has_moved,
            where=self._where,
            gone_s=self._gone_s,
            past=past,
        )
        bisect.insort(self._by_name, mirror, key=lambda mirror: mirror.name)
        return mirror

    def _watch_over(self, mirror: Mirror) -> None:
        name = f"node {mirror.name}"
        self._watching[mirror.name] = self._tasks.start(name, supervised(name, mirror.watch_over))

    def node_of(self, container: str) -> str:
        """Return the other machine that runs a container, or ran it; empty for one of this machine, or an unknown one."""
        return self._elsewhere.get(container, "")

    def _changed(self, container: Container) -> None:
        if container.node not in ("", OWN) and container.id not in self._elsewhere:
            self._elsewhere[container.id] = container.node
            if len(self._elsewhere) > MOST_ELSEWHERE:
                self._elsewhere.popitem(last=False)
        try:
            self._hear(container)
        except Exception:
            # An error here must not end the reports of containers; each pass compares again.
            log.exception("a change of %s was not taken in", container.id)

    def _has_moved(self, mirror: Mirror) -> None:
        if mirror.is_away and mirror.containers:
            log.warning(
                "the machine of the node `%s` does not answer: other containers take the place of its own",
                mirror.name,
            )
        try:
            self.moved(mirror)
        except Exception:  # the node must be looked at again all the same
            log.exception("that `%s` is away, or back, was not taken in", mirror.name)

    def _answers(self) -> None:
        self._came.set()
        self.returned()


async def _some(
    builds: Mapping[asyncio.Task[None], Mirror], able: Collection[str], *, everywhere: bool
) -> None:
    """Wait for the builds, until one of a node of `able` has worked and the others had a little more time."""
    loop = asyncio.get_running_loop()
    began, running, until = loop.time(), set(builds), math.inf
    failures: list[Exception] = []
    while running and loop.time() < until:
        wait_s = None if until == math.inf else until - loop.time()
        done, running = await asyncio.wait(
            running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
        )
        for build in done:
            error = NodeLost("it was given up") if build.cancelled() else build.exception()
            if isinstance(error, Failure):
                failures.append(error)
                if len(builds) > 1:
                    log.warning(
                        "an image was not built on the node `%s`: %s",
                        builds[build].name,
                        error.message,
                    )
            elif error is not None:
                raise error
            elif builds[build].name in able and not everywhere:
                until = min(until, loop.time() + max(LEAST_MORE_S, (loop.time() - began) / 4))
    has_worked = any(
        build.done() and not build.cancelled() and build.exception() is None
        for build, mirror in builds.items()
        if mirror.name in able
    )
    if not has_worked and failures:
        raise next((f for f in failures if not isinstance(f, NodeLost)), failures[0])
