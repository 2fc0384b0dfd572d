"""Machines as namespaces, over a wire that fails: a machine is suspect, is given up, and comes back by itself."""

import pytest

from tests import namespaces
from tests.journeys import machines
from tests.journeys.machines import GONE, READY, SUSPECT

BAD_DELAY_S, BAD_LOSS = 0.1, 0.05
OFF_S = 60  # how far a clock is off


@pytest.fixture
def cluster(tmp_path):
    with machines.cluster(tmp_path / "cluster") as made:
        yield made


def test_agents_and_the_control_plane_find_each_other_after_each_failure(cluster):
    cluster.join("b")
    cluster.join("c")

    # An agent is killed; the next one has its place at once, without a token.
    cluster.kill_agent("b")
    cluster.until("b", SUSPECT)
    cluster.start_agent("b")
    cluster.until("b", READY)

    # The control plane is killed; the next one knows the machines, and their agents find it.
    cluster.kill_control_plane()
    cluster.first.run("up")
    cluster.until("b", READY)
    cluster.until("c", READY)

    # A machine is cut off, another one stays, and then loses its power. Both are given up.
    cluster.machines.cut(cluster.nodes["c"].machine)
    cluster.until("c", SUSPECT)
    assert READY == cluster.healths()["b"]
    cluster.kill_machine("b")
    cluster.until("c", GONE)
    cluster.until("b", GONE)

    # The first one comes back by itself, and to remove the other one needs no answer.
    cluster.machines.heal()
    cluster.until("c", READY)
    cluster.first.run("node", "remove", "b", "-y")
    assert {"c": READY} == cluster.healths()


@pytest.mark.skipif(not namespaces.FAKETIME.exists(), reason="libfaketime is not installed")
@pytest.mark.parametrize("seconds", [-OFF_S, OFF_S])
def test_a_machine_whose_clock_is_a_minute_off_joins_over_a_bad_wire(cluster, seconds):
    cluster.machines.wire.delay_s, cluster.machines.wire.loss = BAD_DELAY_S, BAD_LOSS
    cluster.join("late", namespaces.later({}, seconds))

    assert READY == cluster.healths()["late"]
