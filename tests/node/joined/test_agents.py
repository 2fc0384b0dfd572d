"""Agents as processes over mTLS: killed, cut off, removed, and flooded by their containers."""

import asyncio
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from homeport.contract.container import State
from homeport.contract.errors import NodeLost
from homeport.contract.image import Image
from homeport.contract.supplies import BuildSecret, Supplies
from homeport.control.fleet.mirror import Health
from homeport.control.fleet.nodes import Nodes
from homeport.link import authority
from homeport.link.identity import Identity
from tests import orders, processes, trees
from tests.ingress.machines import of_an_earlier_version
from tests.link.cluster import Partition
from tests.link.cluster import cluster as make_cluster
from tests.node.test_agent import REPORT, Watched
from tests.waiting import PATIENCE_S, until

SECRET = "sesame-" + "7f3a9c" * 4
RUNNER = """
say(kind="ready")
name = order["function"]["name"]
if name == "counts":
    for number in range(3000):
        print(f"line {number}", flush=True)
        if number % 100 == 99:
            time.sleep(0.02)
elif name == "floods":
    while True:
        print("x" * 500, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(600)
"""


@pytest.fixture
async def cluster(tmp_path):
    runner = tmp_path / "runner.py"
    runner.write_text(REPORT + RUNNER)
    tree = tmp_path / "revisions" / "rv-1"
    tree.mkdir(parents=True)
    (tree / "script.py").write_text("here = True")
    async with make_cluster(tmp_path, str(runner)) as made:
        yield made


def order(cluster, container: str = "ta-1", **changes):
    return orders.order(container, **{"source": str(cluster.sources / "rv-1"), **changes})


async def started(cluster, **changes) -> Watched:
    """Start an agent, and a container on it; return what is told of it."""
    watched = Watched()
    cluster.remote("a").watch(watched.changed, watched.said)
    await cluster.start_agent("a")
    await cluster.remote("a").start(order(cluster, **changes), {"PASSWORD": SECRET})
    await watched.until(State.READY)
    return watched


async def test_a_secret_reaches_the_container_and_no_file_of_the_node(cluster, tmp_path):
    watched = await started(cluster)
    supplies = Supplies(secrets=(BuildSecret(name="s", values={"PASSWORD": SECRET}),))
    await cluster.remote("a").prepare(
        Image(), str(cluster.sources / "rv-1"), supplies, lambda _line: None
    )
    process = psutil.Process(watched.containers[-1].pid)
    searched = trees.files(tmp_path / "a")

    assert SECRET == process.environ()["PASSWORD"]
    assert (tmp_path / "a" / "revisions" / "rv-1" / "script.py") in searched
    assert [] == [path for path, content in searched.items() if SECRET.encode() in content]


async def test_an_agent_that_is_killed_comes_back_with_its_containers(cluster):
    watched = await started(cluster)
    pid = watched.containers[-1].pid
    await cluster.end_agent("a")
    await until(lambda: not cluster.remote("a").connected.is_set(), "the loss")
    await cluster.start_agent("a")
    listing = await cluster.remote("a").list()

    assert [(order(cluster), pid, State.READY)] == [
        (each.order, each.pid, each.state) for each in listing.containers
    ]


async def test_a_machine_that_joined_with_an_earlier_version_gets_another_certificate(
    cluster, tmp_path
):
    """The subject of the earlier one does not say whose it is, so its containers could call nothing."""
    await cluster.start_agent("a")
    await cluster.end_agent("a")
    pair = tmp_path / "a" / "cluster" / "node.pem"
    node = Identity(name="a", id=cluster.registry.nodes["a"])
    pair.write_bytes(of_an_earlier_version(cluster.authority, node))
    assert not authority.serves(authority.certificate_of(pair.read_bytes()))
    await cluster.start_agent("a")

    await until(
        lambda: authority.serves(authority.certificate_of(pair.read_bytes())), "another certificate"
    )


async def test_a_control_plane_that_is_started_again_knows_its_orders_and_no_others(
    cluster, caplog
):
    watched = await started(cluster)
    ours = watched.containers[-1]
    made_up = order(cluster, "ta-2", app="bank")
    session = cluster.remote("a").session
    session.tell(
        "start", {"order": dataclasses.replace(made_up, source="rv-1"), "environ": {}}
    )  # as an agent may that lies
    await until(lambda: "`ta-2`, which this server never ordered there" in caplog.text, "a line")
    del cluster.remotes["a"]
    again = Watched()
    cluster.remote("a").watch(again.changed, again.said)
    await cluster.open_again()
    await asyncio.wait_for(cluster.remote("a").connected.wait(), PATIENCE_S)
    listing = await cluster.remote("a").list()

    assert [(order(cluster), ours.pid)] == [(each.order, each.pid) for each in listing.containers]
    assert processes.lives(ours.pid)
    assert {"ta-1"} == {container.id for container in (*again.containers, *watched.containers)}
    await until(lambda: 1 == len(list((cluster.root / "a").rglob("record"))), "the other's end")


async def test_an_agent_that_is_asked_to_end_ends_its_containers_and_says_so(cluster):
    watched = await started(cluster)
    pid = watched.containers[-1].pid

    assert 0 == await cluster.end_agent("a", signal.SIGTERM)
    assert not processes.lives(pid)
    assert State.GONE is watched.states[-1]


async def test_an_agent_that_hangs_up_leaves_its_containers(cluster):
    watched = await started(cluster)
    pid = watched.containers[-1].pid

    assert 0 == await cluster.end_agent("a", signal.SIGHUP)
    assert processes.lives(pid)


async def test_a_second_agent_of_the_same_home_does_not_start(cluster):
    await cluster.start_agent("a")
    first = cluster.agents["a"]
    await cluster.start_agent("a", wait=False)

    assert 1 == await cluster.agents["a"].wait()
    assert first.returncode is None
    cluster.agents["first"] = first


async def test_a_node_that_is_removed_ends_its_containers_and_forgets_its_certificate(
    cluster, tmp_path
):
    watched = await started(cluster)
    del cluster.registry.nodes["a"]
    cluster.listener.remove("a")

    assert 1 == await cluster.agents["a"].wait()
    assert not processes.lives(watched.containers[-1].pid)
    assert [] == list((tmp_path / "a" / "cluster").iterdir())


async def test_a_container_whose_files_are_gone_fails_and_says_why(cluster):
    watched = Watched()
    cluster.remote("a").watch(watched.changed, watched.said)
    await cluster.start_agent("a")
    await cluster.remote("a").start(order(cluster, source=str(cluster.sources / "rv-2")), {})
    failed = await watched.until(State.FAILED)

    assert "its files could not be fetched: `rv-2` is not there any more" == failed.reason


async def test_each_line_comes_once_and_in_order_over_a_loss_of_the_connection(cluster):
    watched = await started(cluster, function="counts")
    await watched.line("line 500")
    await cluster.open_again()
    await watched.line("line 2999")
    numbers = [int(line.text.split()[1]) for line in watched.lines if line.source == "output"]

    assert list(range(3000)) == numbers


async def test_a_flood_of_lines_does_not_hold_up_a_command(cluster):
    watched = await started(cluster, function="floods")
    loop, took = asyncio.get_running_loop(), []
    await until(lambda: len(watched.lines) > 100, "the flood")
    for _ in range(50):
        began = loop.time()
        await cluster.remote("a").mark()
        took.append(loop.time() - began)
    await cluster.remote("a").stop("ta-1", grace_s=0)
    await watched.until(State.GONE)

    assert sorted(took)[25] < 0.2


async def test_after_a_partition_a_node_is_fenced_and_nothing_runs_twice(cluster):
    wall = Partition(cluster.port)
    await wall.open()
    nodes = Nodes([cluster.remote("a")], on_line=lambda _line: None, gone_s=0.5)
    changes = []
    nodes.watch(changes.append)
    try:
        await cluster.start_agent("a", port=wall.port)
        await nodes.open()
        mirror = nodes.mirrors["a"]
        await until(lambda: mirror.health is Health.READY, "the node")
        await nodes.start("a", order(cluster, "ta-old"), {})
        await until(lambda: [c for c in changes if c.state is State.READY], "a container")
        pid = changes[-1].pid
        wall.begin()
        await until(lambda: mirror.health is Health.GONE, "the node to be given up")
        assert State.LOST is changes[-1].state
        assert processes.lives(pid)
        wall.heal()
        await until(lambda: mirror.health is Health.READY, "the node to be back")
        await until(lambda: not processes.lives(pid), "the container that was replaced to end")
        await nodes.start("a", order(cluster, "ta-new"), {})
        await until(
            lambda: [c for c in changes if c.state is State.READY and c.id == "ta-new"],
            "a container of the new generation",
        )
        listing = await cluster.remote("a").list()

        assert [("ta-new", 1)] == [(c.id, c.order.generation) for c in listing.containers]
    finally:
        await nodes.close()
        await wall.close()


async def test_a_machine_that_has_not_joined_says_what_to_do(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "homeport.node"),
        env=os.environ | {"HOMEPORT_HOME": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    _, said = await process.communicate()

    assert 1 == process.returncode
    assert "this machine has not joined a homeport" in said.decode()
    assert "`homeport node token`" in said.decode()


async def test_an_agent_tells_of_itself_and_of_its_machine_over_its_connection(cluster):
    await cluster.start_agent("a")
    remote = cluster.remote("a")
    about = await remote.about()
    pieces: list[str] = []
    await remote.read_log(10, follow=False, say=pieces.append)

    assert abs(about.now - time.time()) < 30
    assert "as the node `a`" in "".join(pieces)


async def test_the_log_of_an_agent_can_be_followed_until_nobody_reads_it(cluster):
    await cluster.start_agent("a")
    pieces: list[str] = []
    reading = asyncio.create_task(cluster.remote("a").read_log(10, follow=True, say=pieces.append))
    await until(lambda: "as the node `a`" in "".join(pieces), "the first line")
    await cluster.open_again()  # of which the agent says a line, and this connection is over
    with pytest.raises(NodeLost):
        await reading
