"""After a restart of the control plane: which nodes it waits for, and what becomes of one that comes late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeport.contract.container import Container
from homeport.contract.errors import StorageError
from homeport.control.fleet.mirror import Health, Mirror
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.past import Past
from tests.control.fleet.house import elapsed
from tests.fakes import FakeNode
from tests.orders import order
from tests.waiting import turns, virtual

WAIT_S = 5.0


class Kept:
    """What is stored about a node."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, bool]] = []
        self.fails = False
        self.before: list[int] = []  # how many containers the control plane had at each note
        self.nodes: Nodes | None = None

    async def note(self, generation: int, away: bool) -> None:
        if self.fails:
            raise StorageError("the disk is full")
        self.before.append(len(self.nodes.containers()))
        await turns(5)
        self.notes.append((generation, away))


@asynccontextmanager
async def started(
    node: FakeNode, *, generation: int = 0, away: bool = False
) -> AsyncIterator[tuple[Nodes, Mirror, Kept, list[Container]]]:
    """Start a control plane that knows this node from before."""
    kept, changes = Kept(), []
    nodes = kept.nodes = Nodes([], on_line=lambda _line: None)
    nodes.watch(changes.append)
    await nodes.open()
    mirror = nodes.add(node, past=Past(generation=generation, away=away, note=kept.note))
    try:
        yield nodes, mirror, kept, changes
    finally:
        await nodes.close()


async def with_container() -> FakeNode:
    node = FakeNode(0, name="a")
    await node.start(order("ta-1"), {})
    await turns(10)
    return node


@virtual
async def test_a_node_that_comes_in_time_keeps_its_containers():
    node = await with_container()
    node.is_cut = True
    async with started(node) as (nodes, mirror, kept, _):
        waiting = asyncio.create_task(nodes.arrived(WAIT_S))
        await asyncio.sleep(2)
        assert not waiting.done()
        node.is_cut = False
        mirror.look()
        began = elapsed()
        await waiting

        assert elapsed() - began < 0.1
        assert ["ta-1"] == [container.id for container in nodes.containers()]
        assert [] == kept.notes


@virtual
async def test_a_node_that_comes_late_is_fenced_and_that_was_stored_before():
    node = await with_container()
    node.is_cut = True
    async with started(node) as (nodes, mirror, kept, changes):
        await nodes.arrived(WAIT_S)
        assert ([(1, True)], Health.GONE) == (kept.notes, mirror.health)
        node.is_cut = False
        mirror.look()
        await asyncio.sleep(1)

        assert [(1, True), (1, False)] == kept.notes
        assert ([], [], Health.READY) == (node.containers, nodes.containers(), mirror.health)
        assert [] == changes


@virtual
async def test_a_node_that_was_given_up_before_is_not_waited_for_and_is_still_fenced():
    node = await with_container()
    async with started(node, generation=1, away=True) as (nodes, mirror, _, _):
        began = elapsed()
        await nodes.arrived(WAIT_S)
        assert began == elapsed()
        mirror.look()
        await asyncio.sleep(1)
        assert ([], Health.READY) == (node.containers, mirror.health)
        await nodes.start("a", order("ta-2"), {})

        assert [1] == [container.order.generation for container in node.containers]


@virtual
async def test_a_node_that_is_removed_is_not_waited_for():
    node = FakeNode(name="a")
    node.is_cut = True
    async with started(node) as (nodes, _, _, _):
        began, waiting = elapsed(), asyncio.create_task(nodes.arrived(WAIT_S))
        await asyncio.sleep(1)
        nodes.remove("a")
        await waiting

        assert 1 == elapsed() - began


@virtual
async def test_containers_are_not_replaced_before_it_is_stored_that_they_are_fenced():
    node = await with_container()
    async with started(node) as (nodes, mirror, kept, changes):
        await nodes.arrived(WAIT_S)
        changes.clear()
        node.is_cut = kept.fails = True
        await asyncio.sleep(60)
        assert (Health.SUSPECT, []) == (mirror.health, changes)
        kept.fails = False
        await asyncio.sleep(2)

        assert (Health.GONE, ["ta-1"]) == (mirror.health, [change.id for change in changes])
        assert ([(1, True)], [1]) == (kept.notes, kept.before)


@virtual
async def test_a_node_is_not_back_before_that_is_stored():
    node = await with_container()
    async with started(node, generation=1, away=True) as (_, mirror, kept, _):
        kept.fails = True
        await asyncio.sleep(5)
        assert Health.GONE is mirror.health
        kept.fails = False
        await asyncio.sleep(2)

        assert (Health.READY, [(1, False)]) == (mirror.health, kept.notes)
