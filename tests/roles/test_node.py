"""The promises of the node role, kept by the fake and by the agent alike."""

import dataclasses

import pytest

from homeport.contract.container import StartOrder, State
from homeport.contract.errors import NotFound
from homeport.contract.programs import OUT, Order
from homeport.node.agent import Agent
from homeport.settings import Settings
from tests import orders
from tests.fakes import FakeNode
from tests.link.cluster import cluster
from tests.node.test_agent import REPORT, Watched
from tests.waiting import turns, until

RUNNER = """
if order["function"]["name"] == "broken":
    say(kind="failed", reason="no fuel", timings_ms={"imported": 0.1})
else:
    say(kind="reached", phase="entered")
    say(kind="ready", timings_ms={"entered": 5.0})
    if order["function"]["name"] == "busy":
        say(kind="held", held=1)
        told = heard()
        say(kind="held", held=told["held"] + 1)
    time.sleep(60)
"""


class Sources:
    """Where the orders' source tree is: a node elsewhere fetches it."""

    tree = "/"


def order(*args, **changes) -> StartOrder:
    return orders.order(*args, **{"source": Sources.tree, **changes})


@pytest.fixture(params=["fake", "processes", "elsewhere"])
async def node(request, tmp_path, monkeypatch):
    """The fake, the agent, or an agent in its own process over mTLS; and what it reports."""
    watched = Watched()
    tree = tmp_path / "revisions" / "rv-1"
    tree.mkdir(parents=True)
    (tree / "script.py").write_text("here = True")
    monkeypatch.setattr(Sources, "tree", str(tree))
    if request.param == "fake":
        fake = FakeNode(0.01, fails=lambda order: order.function.name == "broken")
        fake.watch(watched.changed, watched.said)
        yield fake, watched
        return
    runner = tmp_path / "runner.py"
    runner.write_text(REPORT + RUNNER)
    if request.param == "elsewhere":
        async with cluster(tmp_path, str(runner)) as made:
            remote = made.remote("there")
            remote.watch(watched.changed, watched.said)
            await made.start_agent("there")
            yield remote, watched
            for container in (await remote.list()).containers:
                await remote.stop(container.id, grace_s=0)

            async def none_left() -> bool:
                return not (await remote.list()).containers

            await until(none_left, "the containers to end")
        return
    settings = Settings(home=tmp_path / "home")
    settings.socket_dir.mkdir(parents=True)
    agent = Agent(settings, tied=True, runner=(str(runner),))
    agent.watch(watched.changed, watched.said)
    await agent.open()
    yield agent, watched
    await agent.close()


async def test_a_container_is_listed_from_its_start_to_its_end_and_told_of_twice(node):
    node, watched = node
    await node.start(order("ta-1"), {})
    assert [State.STARTING] == [container.state for container in (await node.list()).containers]
    ready = await watched.until(State.READY)
    assert [State.READY] == [container.state for container in (await node.list()).containers]
    await node.stop("ta-1", grace_s=5)
    await watched.until(State.GONE)

    assert ready.address
    assert {"scheduled", "forked", "imported", "entered"} == set(ready.timings_ms)
    assert 5.0 == ready.timings_ms["entered"]
    assert "fresh" == ready.origin
    assert () == (await node.list()).containers
    assert [State.STARTING, State.READY, State.DRAINING, State.GONE] == watched.states


async def test_a_failed_start_is_told_of_once_with_its_reason(node):
    node, watched = node
    await node.start(order("ta-1", function="broken"), {})
    container = await watched.until(State.FAILED)
    await turns(1)

    assert "no fuel" == container.reason
    assert {"scheduled", "forked", "imported"} == set(container.timings_ms)
    assert [State.STARTING, State.FAILED] == watched.states
    assert () == (await node.list()).containers


async def test_a_container_may_be_stopped_before_it_is_ready_and_an_unknown_one_is_ignored(node):
    node, watched = node
    await node.stop("ta-unknown")
    await node.start(order("ta-1"), {})
    await node.stop("ta-1", grace_s=5)
    await watched.until(State.GONE)

    assert State.READY not in watched.states
    assert State.GONE is watched.states[-1]
    assert () == (await node.list()).containers


async def test_held_slots_of_a_container_are_reported_and_the_answer_is_passed_on(node):
    node, watched = node
    await node.confirm_held("ta-unknown", 1)
    await node.start(order("ta-1", function="busy", max_inputs=2), {})
    await watched.until(State.READY)
    if isinstance(node, FakeNode):
        node.hold("ta-1", 1)
    await watched.holds(1)
    await node.confirm_held("ta-1", 1)
    if isinstance(node, FakeNode):
        node.hold("ta-1", 2)

    assert 2 == (await watched.holds(2)).held


async def test_a_node_says_what_each_container_uses(node):
    node, watched = node
    assert {} == await node.usage()
    await node.start(order("ta-1"), {})
    await watched.until(State.READY)
    used = await node.usage()
    assert {"ta-1"} == used.keys()
    assert used["ta-1"].cpu_s > 0
    assert 0 < used["ta-1"].memory_mib < 500
    assert 0 == used["ta-1"].gpu_memory_mib
    await node.stop("ta-1", grace_s=5)
    await watched.until(State.GONE)

    assert {} == await node.usage()


@pytest.mark.parametrize("key", ["0123456789abcdef", "../passwd", "/etc", ""])
async def test_of_a_layer_that_it_does_not_have_it_has_no_build_log(node, key):
    node, _ = node
    assert await node.build_log(key) is None


async def test_changes_are_numbered_without_a_gap_and_the_list_is_what_they_come_to(node):
    node, watched = node
    before = await node.mark()
    await node.start(order("ta-1"), {})
    await watched.until(State.READY)
    await node.start(order("ta-2"), {})
    await watched.ready("ta-2")
    listing = await node.list()
    told = {container.id: container for container in watched.containers}

    assert {before.run} == {mark.run for mark in watched.marks}
    assert list(range(before.number + 1, before.number + len(watched.marks) + 1)) == [
        mark.number for mark in watched.marks
    ]
    assert watched.marks[-1] == listing.mark == await node.mark()
    assert told == {container.id: container for container in listing.containers}
    assert {node.name} == {container.node for container in listing.containers}
    assert listing.capacity.places > 0


async def test_a_fenced_node_stops_what_was_ordered_before_and_takes_no_such_order(node):
    node, watched = node
    await node.start(order("ta-old"), {})
    await watched.until(State.READY)
    await node.start(dataclasses.replace(order("ta-new"), generation=1), {})
    await watched.until(State.READY)
    await node.fence(1)
    await watched.until(State.GONE)
    await node.start(order("ta-late"), {})
    await watched.until(State.FAILED)

    assert [State.STARTING, State.READY, State.DRAINING, State.GONE] == watched.of("ta-old")
    assert [State.FAILED] == watched.of("ta-late")
    listing = await node.list()
    assert ["ta-new"] == [container.id for container in listing.containers]
    assert 1 == listing.generation


async def test_a_program_runs_in_a_container_that_is_ready(node):
    node, watched = node
    await node.start(order("ta-1"), {})
    await watched.until(State.READY)
    program = await node.execute("ta-1", Order(argv=("cat",)), {"WORD": "sesame"})
    await program.write(b"typed")
    read = b""
    while len(read) < len(b"typed"):
        where, data = await program.read()
        read += data
    await program.write(b"")
    end = await program.read()
    code = await program.ended()
    await program.close()

    assert (b"typed", OUT, (OUT, b""), 0) == (read, where, end, code)
    with pytest.raises(NotFound):
        await node.execute("ta-2", Order(argv=("cat",)), {})


async def test_the_machine_of_a_node_answers(node):
    node, _ = node

    assert await node.lives()
