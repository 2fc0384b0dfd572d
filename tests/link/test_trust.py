"""What an agent reports, and what the control plane takes of it."""

import dataclasses
from pathlib import Path

import pytest

from homeport.contract.container import Container, LogLine, OpenTunnel, State
from homeport.contract.scope import Scope
from homeport.link import trust
from homeport.link.frames import Broken
from homeport.link.identity import Identity
from homeport.link.messages import VERSION, Hello
from homeport.link.seals import Sealer
from homeport.link.trust import Reports
from tests.orders import order

SOURCES = Path("/home/revisions")
ORDER = order("ta-1", source="/home/revisions/rv-1", max_inputs=2)
SEALER = Sealer(b"the key of the cluster", "a")
TOLD = Container(order=dataclasses.replace(ORDER, source="rv-1"), state=State.READY, node="a")


def made(*, reached: bool = True) -> Reports:
    reports = Reports("a", SOURCES, SEALER)
    reports.reached = reached
    return reports


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
    names = "0" * 20, "t", "x" * 20
    tunnels = tuple(OpenTunnel(name=name, port=1, address=address) for name in names)
    taken = reports.container(dataclasses.replace(TOLD, address=address, tunnels=tunnels))

    assert "peer:a/ta-1" == taken.address
    assert [("0" * 20, "peer:a/" + "0" * 20)] == [(t.name, t.address) for t in taken.tunnels]
    assert "" == reports.container(TOLD).address


def test_a_node_that_the_ingress_does_not_reach_has_no_address_at_all():
    own = dataclasses.replace(TOLD, address="abstract:homeport-ta-1")
    away, near = made(reached=False), made()
    for reports in (away, near):
        reports.ordered(ORDER)

    assert "" == away.container(own).address
    assert "peer:a/ta-1" == near.container(own).address


@pytest.mark.parametrize(
    "name", ["ta-1 disabled", "ta-1\n  server x", "../x", "ta-" + "a" * 50, ""]
)
def test_a_text_that_is_no_id_of_a_container_never_reaches_the_ingress(name):
    told = dataclasses.replace(TOLD, order=dataclasses.replace(TOLD.order, id=name))

    with pytest.raises(Broken, match="no container's id"):
        made().container(told)


NODE = Identity(name="a", id="0" * 32)


def peer(came_from: str, port: int = 7601, reach: str = "", networks: str = "") -> tuple[str, int]:
    hello = Hello(version=VERSION, run="x", port=port, reach=reach)
    taken = trust.peer(NODE, came_from, hello, networks)
    assert taken is not None
    assert NODE.host == taken.name
    return taken.host, taken.port


def test_a_node_is_reached_at_the_address_from_which_it_came():
    assert ("10.0.0.2", 7601) == peer("10.0.0.2")
    assert ("10.0.0.2", 9) == peer("::ffff:10.0.0.2", port=9, reach="10.0.0.2")
    assert ("2001:db8::2", 7601) == peer("2001:db8::2", reach="2001:DB8:0::2")
    assert trust.peer(NODE, "10.0.0.2", Hello(version=VERSION, run="x"), "") is None


@pytest.mark.parametrize(
    ("came_from", "reach"),
    [
        *(("10.0.0.2", "10.0.0.3"), ("10.0.0.2", "127.0.0.1"), ("10.0.0.2", "::1")),
        *(("10.0.0.2", "::ffff:127.0.0.1"), ("10.0.0.2", "0.0.0.0"), ("10.0.0.2", "localhost")),
        *(("127.0.0.1", ""), ("::1", ""), ("::ffff:127.0.0.1", ""), ("127.9.9.9", "127.9.9.9")),
        *(("fe80::1%2", ""), ("10.0.0.2", "10.0.0.2 ssl"), ("10.0.0.2", "0x7f.1"), ("fe80::1", "")),
        *(("10.0.0.2", "169.254.169.254"), ("10.0.0.2", "224.0.0.1"), ("169.254.1.1", "")),
    ],
)
def test_another_address_is_one_that_the_operator_allows_or_none(came_from, reach):
    with pytest.raises(Broken):
        peer(came_from, reach=reach)
    with pytest.raises(Broken):
        peer(came_from, reach=reach, networks="192.168.0.0/16,2001:db8::/32")


@pytest.mark.parametrize(
    "reach", ["2001:db8::1%eth0", "2001:db8::1%a b", "2001:db8::1%x\n  server evil 10.0.0.1:1"]
)
def test_an_address_has_no_more_words_than_an_address(reach):
    """It becomes a word of HAProxy's configuration, and what follows a `%` may be anything."""
    for came_from in ("2001:db8::1", reach):
        hello = Hello(version=VERSION, run="r", port=7601, reach=reach)
        with pytest.raises(Broken, match="is not an IP address"):
            trust.peer(Identity(name="a", id="a" * 32), came_from, hello, "2001:db8::/32")


def test_the_operator_allows_networks():
    assert ("127.0.0.1", 7601) == peer("127.0.0.1", networks="127.0.0.0/8")
    assert ("10.0.0.3", 7601) == peer("10.0.0.2", reach="10.0.0.3", networks="::1/128,10.0.0.3/32")


@pytest.mark.parametrize("port", [-1, 65536, 2**40])
def test_a_report_of_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(Broken, match="not a port"):
        peer("10.0.0.2", port=port)


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
    assert "a" == reports.line(line(node="b"), 100.0).node


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
