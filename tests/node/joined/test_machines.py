"""Agents on other machines, over a wire that delays, loses and cuts: containers outlive it, and none runs twice."""

import contextlib
import time

import pytest

from homeport.contract.container import State
from homeport.control.fleet.mirror import GONE_S, Health
from homeport.control.fleet.nodes import Nodes
from tests import namespaces, orders, processes
from tests.link.cluster import cluster as make_cluster
from tests.node.test_agent import REPORT
from tests.waiting import until

pytestmark = pytest.mark.skipif(bool(namespaces.lacks()), reason=namespaces.lacks())
RUNNER = """
from homeport.contract.pulse import Pulse
pulse = Pulse(given.pulse)
say(kind="ready")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:  # without its pulse, the node ends it after 10 s
    pulse.beat()
    pulse.turn()
    time.sleep(0.1)
"""
BAD_DELAY_S, BAD_LOSS = 0.1, 0.05


class Fleet:
    """The control plane's picture of one machine, and each change that it was told."""

    def __init__(self, machines, there, cluster, nodes):
        self.machines, self.there = machines, there
        self.cluster, self.nodes = cluster, nodes
        self.changes = []
        nodes.watch(self.changes.append)

    @property
    def health(self):
        return self.nodes.mirrors["b"].health

    async def healthy(self, health):
        await until(lambda: self.health is health, f"the node to be {health}")

    async def started(self, container):
        """Start a container; return the id of its process, as this process sees it."""
        order = orders.order(container, source=str(self.cluster.sources / "rv-1"))
        await self.nodes.start("b", order, {})
        await until(
            lambda: any(c.id == container and c.state is State.READY for c in self.changes),
            f"{container} to be ready",
        )
        # its process has another id here than on its machine
        runner = self.cluster.runner
        return max(processes.with_word(runner), key=lambda process: process.create_time()).pid


@contextlib.asynccontextmanager
async def fleet(tmp_path, gone_s, **changes):
    (runner := tmp_path / "runner.py").write_text(REPORT + RUNNER)
    (tree := tmp_path / "revisions" / "rv-1").mkdir(parents=True)
    (tree / "script.py").write_text("here = True")
    with namespaces.Machines() as machines:
        first, there = machines.add("first"), machines.add("b")
        async with make_cluster(tmp_path, str(runner), first) as cluster:
            nodes = Nodes([cluster.remote("b")], on_line=lambda _line: None, gone_s=gone_s)
            made = Fleet(machines, there, cluster, nodes)
            try:
                await cluster.start_agent("b", machine=there, **changes)
                await nodes.open()
                await made.healthy(Health.READY)
                yield made
            finally:
                await nodes.close()


async def test_a_machine_that_is_back_in_time_keeps_its_containers(tmp_path):
    async with fleet(tmp_path, gone_s=600) as made:
        pid = await made.started("ta-1")
        made.machines.cut(made.there)
        await made.healthy(Health.SUSPECT)
        made.machines.heal()
        await made.healthy(Health.READY)

        assert processes.lives(pid)
        assert ["ta-1"] == [container.id for container in made.nodes.containers()]
        assert State.LOST not in [change.state for change in made.changes]


@pytest.mark.parametrize(
    ("gone_s", "cut_s", "delay_s", "loss"),
    [
        pytest.param(0.5, 0, BAD_DELAY_S, BAD_LOSS, id="a bad wire"),
        pytest.param(GONE_S, 15, 0, 0, id="15 s", marks=pytest.mark.soak),
        pytest.param(GONE_S, 55, BAD_DELAY_S, BAD_LOSS, id="55 s", marks=pytest.mark.soak),
    ],
)
async def test_after_a_partition_nothing_runs_twice(tmp_path, gone_s, cut_s, delay_s, loss):
    async with fleet(tmp_path, gone_s=gone_s) as made:
        made.machines.wire.delay_s, made.machines.wire.loss = delay_s, loss
        old = await made.started("ta-old")
        began = time.monotonic()
        made.machines.cut(made.there)
        await made.healthy(Health.GONE)
        assert ("ta-old", State.LOST) == (made.changes[-1].id, made.changes[-1].state)
        assert processes.lives(old)
        await until(lambda: time.monotonic() - began >= cut_s, "the time of the partition")
        made.machines.heal()
        await made.healthy(Health.READY)
        await until(lambda: not processes.lives(old), "what was replaced to end")
        new = await made.started("ta-new")
        listing = await made.cluster.remote("b").list()

        assert processes.lives(new)
        assert [("ta-new", 1)] == [(c.id, c.order.generation) for c in listing.containers]


async def test_an_agent_that_is_killed_on_its_machine_finds_its_containers_again(tmp_path):
    async with fleet(tmp_path, gone_s=600) as made:
        pid = await made.started("ta-1")
        await made.cluster.end_agent("b")
        await made.healthy(Health.SUSPECT)
        await made.cluster.start_agent("b", machine=made.there)
        await made.healthy(Health.READY)

        assert processes.lives(pid)
        assert ["ta-1"] == [container.id for container in made.nodes.containers()]


@pytest.mark.skipif(not namespaces.FAKETIME.exists(), reason="libfaketime is not installed")
@pytest.mark.parametrize("seconds", [-60, 60])
async def test_a_machine_whose_clock_is_a_minute_off_joins_and_has_containers(tmp_path, seconds):
    async with fleet(tmp_path, gone_s=600, changes=namespaces.later({}, seconds)) as made:
        pid = await made.started("ta-1")

        assert processes.lives(pid)
