"""What an agent reports, and what the control plane takes of it."""

import dataclasses
from pathlib import Path

import pytest

from homeport.contract.container import Container, LogLine, OpenTunnel, State
from homeport.contract.scope import Scope
from homeport.link import trust
from homeport.link.frames import Broken
from homeport.link.seals import Sealer
from homeport.link.trust import Reports
from tests.orders import order

SOURCES = Path("/home/revisions")
ORDER = order("ta-1", source="/home/revisions/rv-1", max_inputs=2)
SEALER = Sealer(b"the key of the cluster", "a")
TOLD = Container(order=dataclasses.replace(ORDER, source="rv-1"), state=State.READY, node="a")


def made(*, reached: bool = True) -> Reports:
    return Reports("a", SOURCES, SEALER, reached=reached)


@pytest.fixture
def reports():
    with_order = made()
    with_order.ordered(ORDER)
    return with_order


def line(container: str = "ta-1", **changes) -> LogLine:
    return LogLine(
        **{"at": 100.0, "app": "x", "function": "y", "container": container, "text": "t"} | changes
    )


def test_a_container_is_the_one_that_was_ordered(reports):
    other = dataclasses.replace(order("ta-1", app="bank"), source="rv-9")
    taken = reports.container(dataclasses.replace(TOLD, order=other))

    assert ORDER == taken.order
    assert TOLD.state == taken.state


def test_a_node_speaks_for_itself_alone(reports):
    taken = reports.container(dataclasses.replace(TOLD, node="b", held=99))

    assert ("a", 2) == (taken.node, taken.held)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:5432", "unix:/run/docker.sock", "10.0.0.1:22", "ipv4@1.2.3.4:1", "fd@3"]
)
def test_the_ingress_never_connects_to_an_address_of_a_nodes_choice(reports, address):
    tunnels = (OpenTunnel(name="t", port=1, address=address),)
    taken = reports.container(dataclasses.replace(TOLD, address=address, tunnels=tunnels))

    assert ("", ()) == (taken.address, taken.tunnels)


def test_a_node_that_the_ingress_does_not_reach_has_no_address_at_all():
    own = dataclasses.replace(TOLD, address="abstract:homeport-ta-1")
    away, near = made(reached=False), made()
    for reports in (away, near):
        reports.ordered(ORDER)

    assert "" == away.container(own).address
    assert own.address == near.container(own).address


def test_after_a_restart_of_the_control_plane_an_order_is_known_by_its_seal():
    sent = made().ordered(ORDER)
    again = made()

    assert ("rv-1", ORDER) == (
        sent.source,
        again.container(dataclasses.replace(TOLD, order=sent)).order,
    )
    assert again.line(line(), 100.0)


def test_the_generation_of_an_order_is_not_for_the_node_to_say(reports):
    later = dataclasses.replace(TOLD.order, generation=9)

    assert 0 == reports.container(dataclasses.replace(TOLD, order=later)).order.generation


def test_a_container_without_a_seal_was_never_ordered_and_nor_were_its_lines():
    fresh = made()

    assert fresh.container(TOLD) is None
    assert fresh.line(line(), 100.0) is None


@pytest.mark.parametrize("source", ["..", ".", "../x", "/etc", "a/b", ".hidden", "a\0b", "a" * 200])
def test_a_source_tree_cannot_be_elsewhere(source):
    order = dataclasses.replace(TOLD.order, source=source)
    sealed = dataclasses.replace(order, seal=SEALER.seal(order))
    with pytest.raises(Broken, match="source tree"):
        made().container(dataclasses.replace(TOLD, order=sealed))

    with pytest.raises(ValueError, match="is not a source tree"):
        trust.tree_of(source, SOURCES)


def test_an_agent_cannot_say_that_a_container_is_lost(reports):
    with pytest.raises(Broken, match="lost"):
        reports.container(dataclasses.replace(TOLD, state=State.LOST))


def test_a_line_is_of_the_app_whose_container_said_it(reports):
    taken = reports.line(line(within=Scope("other", "other"), source="audit"), 100.0)

    assert ("app", "f", ORDER.within, "output") == (
        taken.app,
        taken.function,
        taken.within,
        taken.source,
    )
    assert "system" == reports.line(line(source="system"), 100.0).source


def test_a_line_of_a_container_that_the_node_never_had_is_dropped(reports):
    assert reports.line(line("ta-2"), 100.0) is None


def test_a_clock_that_is_a_minute_off_is_taken_and_one_that_is_wrong_is_not(reports):
    assert [40.0, 160.0] == [reports.line(line(at=at), 100.0).at for at in (40.0, 160.0)]
    assert 5000.0 == reports.line(line(at=0.0), 5000.0).at
    assert 5000.0 == reports.line(line(at=1e300), 5000.0).at


def test_only_so_many_orders_are_remembered(monkeypatch, reports):
    monkeypatch.setattr(trust, "MOST_ORDERS", 3)
    for number in range(5):
        reports.ordered(order(f"ta-n{number}", source=""))

    assert reports.line(line("ta-1"), 100.0) is None
    assert reports.line(line("ta-n4"), 100.0)
