"""Whatever dies or is cut off while visitors of all kinds ask: only requests inside it fail, and none runs twice.

A cluster of three machines and more, with a container of one function on each. What each case costs is printed.
"""

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil
import pytest

from tests import processes
from tests.journeys import machines, probers
from tests.journeys.machines import GONE, READY, SUSPECT, Cluster, On
from tests.journeys.probers import CONNECT_S, Asked, Facts, Probers
from tests.waiting import wait_for

EVERYWHERE = "everywhere"  # it has a container on each machine
ONES = ("one", "two", "three")  # each has one container
LATE_S = 2.0  # more than what is promised, and less than a request waits that hangs: CI may be busy
SOON_S = 10.0  # for other containers to be there: 5 s are promised, and CI may be busy
GONE_AFTER_S = 13.5  # at most, from the beginning of a silence
DELAY_S, LOSS = 0.1, 0.05


class Scene:
    """The cluster, its visitors, and what became of their requests."""

    def __init__(self, cluster: Cluster, shared: Path) -> None:
        self.cluster, self.first = cluster, cluster.first
        self.environ = {"HOMEPORT_SHARED_VOLUMES": str(shared)}
        self.facts = Facts(self.first, shared)

    def ready(self, function: str, node: str = "") -> set[str]:
        """Return the containers of a function that are ready, on any machine or on one; of all functions if it is empty."""
        return {
            each["id"]
            for each in self.first.containers()
            if each["state"] == "ready"
            and function in ("", each["function"])
            and node in ("", each["node"])
        }

    def visitors(self, function: str, kinds: Collection[str] = probers.KINDS) -> "Visitors":
        return Visitors(self, self.first.urls()[function], kinds)

    def settled(self) -> None:
        """Wait until there are as many containers as wanted, the ingress has these and no others, and no request waits."""
        wait_for(
            lambda: (
                len(found := self.ready(EVERYWHERE)) == 3
                and self.facts.servers(EVERYWHERE) == sorted(found | self._of_ones())
            ),
            "three containers, and no others in the ingress",
        )

    def _of_ones(self) -> set[str]:
        return {container for name in ONES for container in self.ready(name)}


class Visitors(Probers):
    """Probers whose requests are looked at in parts."""

    def __init__(self, scene: Scene, url: str, kinds: Collection[str]) -> None:
        super().__init__(scene.first, url, kinds)
        self._scene, self._seen = scene, 0

    def part(self, what: str) -> list[Asked]:
        """Return the requests that have ended since the last part, and print what became of them."""
        part = self.asked[self._seen :]
        self._seen += len(part)
        print(probers.describe(what, part, self._scene.facts.begun()))
        return part

    def none_failed(self, what: str) -> None:
        assert [] == [str(each) for each in self.part(what) if each.failed]


@pytest.fixture
def scene(tmp_path) -> Iterator[Scene]:
    (shared := tmp_path / "shared").mkdir()
    environ = {"HOMEPORT_SHARED_VOLUMES": str(shared)}
    with machines.cluster(tmp_path / "cluster", environ) as made:
        made.join("b", environ)
        made.join("c", environ)
        script = tmp_path / "asked.py"
        script.write_text(probers.script(**{EVERYWHERE: 3}, **dict.fromkeys(ONES, 1)))
        made.first.run("deploy", script)
        scene = Scene(made, shared)
        wait_for(lambda: all(scene.ready(EVERYWHERE, node) for node in ("here", "b", "c")), "three")
        yield scene
        assert {} == scene.facts.twice()


def test_only_requests_inside_what_dies_fail(scene):
    cluster, first, facts = scene.cluster, scene.first, scene.facts
    with scene.visitors(EVERYWHERE) as visitors:
        # A machine may be 0.2 s away, there and back.
        cluster.machines.wire.delay_s = DELAY_S
        answered_by(visitors, scene.ready(EVERYWHERE))
        cluster.machines.wire.delay_s = 0.0
        visitors.none_failed("a slow wire")

        # An agent is killed. Its containers go on, and the next one takes them over.
        cluster.kill_agent("b")
        cluster.until("b", SUSPECT)
        answered_by(visitors, scene.ready(EVERYWHERE, "b"))
        cluster.start_agent("b")
        cluster.until("b", READY)
        visitors.none_failed("an agent is killed")

        kill_haproxy(scene, visitors, cluster.nodes["b"], scene.ready("", "b"))
        kill_haproxy(scene, visitors, first, scene.ready(""))

        containers = scene.ready(EVERYWHERE)
        cluster.kill_control_plane()
        answered_by(visitors, containers)
        first.run("up")
        cluster.until("b", READY)
        cluster.until("c", READY)
        visitors.more()
        visitors.none_failed("the control plane is killed")

        # A machine joins, and another one is drained and removed.
        cluster.join("d", scene.environ)
        first.run("node", "drain", "b")
        wait_for(lambda: not scene.ready("", "b"), "no container on the machine that is drained")
        scene.settled()
        first.run("node", "remove", "b", "-y")
        visitors.more()
        visitors.none_failed("a machine joins, and one is drained and removed")

        # A machine loses its power. Requests inside it end when it is given up.
        dead = scene.ready("", "c")
        died = time.monotonic()
        cluster.kill_machine("c")
        wait_for(lambda: len(scene.ready(EVERYWHERE) - dead) == 3, "containers in their place")
        soon("replaced", died)
        cluster.until("c", GONE)
    part = visitors.part("a machine loses its power")
    assert [] == facts.outside(part, dead, died, died + CONNECT_S + LATE_S)
    assert [] == late(part)


def kill_haproxy(scene: Scene, visitors: Visitors, there: On, inside: Collection[str]) -> None:
    """Kill HAProxy on a machine: only requests fail that are in these containers, or on their way to them."""
    began = time.monotonic()
    dying = there.processes("haproxy")  # those before the last reload too
    for haproxy in dying:
        with contextlib.suppress(psutil.Error):
            haproxy.kill()
    assert [] == processes.living(*(haproxy.pid for haproxy in dying))
    killed = time.monotonic()
    answered_by(visitors, set(inside) & scene.ready(EVERYWHERE))
    part = visitors.part(f"HAProxy of {there.machine.name} is killed")
    assert [] == scene.facts.outside(part, inside, began, killed)


def answered_by(visitors: Visitors, containers: Collection[str]) -> None:
    """Return when each of these containers has answered from now on."""
    before = len(visitors.asked)
    wait_for(
        lambda: set(containers) <= {each.container for each in visitors.asked[before:]},
        f"answers of {containers}",
    )


def soon(what: str, since: float) -> None:
    """Print how long something has taken, which must not be until the machine is given up."""
    print(f"{what} after {time.monotonic() - since:.2f} s")
    assert time.monotonic() < since + SOON_S


def late(asked: Collection[Asked], inside: Collection[str] = ()) -> list[str]:
    """Return, in words, the requests that a dead machine has cost more than it may; not those inside these containers."""
    most_s = CONNECT_S + LATE_S + 0.1  # of which their handlers take the last part
    return [
        str(each)
        for each in asked
        if not each.failed and each.took_s > most_s and each.container not in inside
    ]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("how", "seconds"), [("cut", 15), ("cut", 60), ("mute", 15), ("deafen", 15), ("cut", 5)]
)
def test_after_a_partition_nothing_has_run_twice(scene, how, seconds):
    """Packets pass in no direction, not from the machine, or not to it. Nobody is told: no connection is reset."""
    cluster, facts, wire = scene.cluster, scene.facts, scene.cluster.machines.wire
    one = next(name for name in ONES if scene.ready(name, "c"))
    with scene.visitors(EVERYWHERE) as everywhere, scene.visitors(one, ("get", "post-1")) as ones:
        inside, old = scene.ready("", "c"), scene.ready(one)
        began = time.monotonic()
        getattr(wire, how)(cluster.nodes["c"].machine.address)
        wait_for(lambda: scene.ready(one) - old, "a container in the place of the only one")
        soon("replaced", began)
        wait_for(lambda: time.monotonic() - began >= seconds, "the time of the partition")
        wire.heal()
        healed = time.monotonic()
        cluster.until("c", READY)
        print(f"ready again after {time.monotonic() - healed:.2f} s")
        everywhere.more(200)
        ones.more()
    part = everywhere.part(f"{how} for {seconds} s") + ones.part("the only container is there")
    assert [] == facts.outside(part, inside, began, began + CONNECT_S + LATE_S)
    assert [] == late(everywhere.asked, inside)
    scene.settled()
    wait_for(lambda: all(len(scene.ready(name)) == 1 for name in ONES), "one container of each")
    if seconds > GONE_AFTER_S:
        assert not inside & scene.ready("")


@pytest.mark.soak
def test_over_a_bad_wire_all_machines_answer(scene):
    cluster, facts, wire = scene.cluster, scene.facts, scene.cluster.machines.wire
    one = next(name for name in ONES if scene.ready(name, "c"))
    with scene.visitors(EVERYWHERE) as everywhere, scene.visitors(one) as ones:
        wire.delay_s, wire.loss = DELAY_S, LOSS
        for _ in range(3):
            answered_by(everywhere, scene.ready(EVERYWHERE))
            ones.more(100)
        everywhere.none_failed("0.1 s each way, and 5 % loss")
        ones.none_failed("the only container is there")
        dead = scene.ready("", "c")
        died = time.monotonic()
        cluster.kill_machine("c")
        wait_for(lambda: len(scene.ready(EVERYWHERE) - dead) == 3, "containers in their place")
        cluster.until("c", GONE)
        wire.delay_s = wire.loss = 0.0
    part = everywhere.part("its power goes") + ones.part("the only container was there")
    assert [] == facts.outside(part, dead, died, died + CONNECT_S + LATE_S)
    scene.settled()
