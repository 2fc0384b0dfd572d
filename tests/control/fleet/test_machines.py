"""Machines that join, are drained and removed, and their place among the nodes: real TLS on loopback."""

import asyncio
import json

import pytest

from homeport.contract.capacity import Capacity
from homeport.contract.container import State
from homeport.contract.errors import BadRequest, NodeLost, NotFound, StorageError, Unauthorized
from homeport.control.fleet.machines import END_S, USUAL, Listens, Machines, address_of, own_of
from homeport.control.fleet.mirror import Health
from homeport.control.fleet.nodes import Nodes
from homeport.link import volumes
from homeport.link.calls import About
from homeport.link.volumes import NOT_MARKED
from homeport.node.joined import dialing
from homeport.node.joined.place import Address, Place
from homeport.state.nodes import Nodes as Rows
from tests.fakes import FakeIngress, FakeNode
from tests.orders import order
from tests.waiting import until

ANY = Listens(host="127.0.0.1", port=0)


async def joined(machines: Machines, tmp_path, name: str) -> Place:
    text, listens = await machines.token(ANY)
    place = Place(tmp_path / name)
    await dialing.join(place, Address(host=listens.host, port=listens.port), name, text)
    return place


async def test_a_server_without_machines_opens_no_port_and_keeps_no_file(machines, tmp_path):
    assert not (tmp_path / "cluster").exists()
    assert [] == machines.every()


async def test_a_machine_that_joins_is_a_node_without_a_place_for_containers(
    machines, nodes, tmp_path
):
    await joined(machines, tmp_path, "a")
    mirror = nodes.mirrors["a"]

    assert ["a"] == [row.name for row in machines.every()]
    assert Health.READY is not mirror.health
    mirror.capacity = Capacity(cores=1, memory_mib=1, places=0)
    assert not mirror.takes
    assert 1 == len(nodes.capacities())


async def test_the_port_is_open_again_after_a_restart_and_the_machines_are_known(
    machines, tmp_path, database
):
    await joined(machines, tmp_path, "a")
    await machines.drain("a", on=True)
    _, listens = await machines.token(None)
    await machines.close()
    again_nodes = Nodes([], on_line=lambda _line: None)
    again = Machines(tmp_path, again_nodes, Rows(database), FakeIngress())
    try:
        await again.open()

        assert ({"a"}, True) == (again_nodes.mirrors.keys(), again_nodes.mirrors["a"].drained)
        assert listens == (await again.token(None))[1]
    finally:
        await again.close()
        await again_nodes.close()


async def test_all_machines_connect_at_one_port(machines):
    _, listens = await machines.token(ANY)
    assert listens == (await machines.token(listens))[1] == (await machines.token(None))[1]
    with pytest.raises(BadRequest, match="already"):
        await machines.token(Listens(host="127.0.0.1", port=1))


async def test_a_port_that_is_taken_is_an_error_and_another_can_be_named(machines):
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StorageError, match="cannot be opened"):
            await machines.token(Listens(host="127.0.0.1", port=port))

    assert (await machines.token(ANY))[1].port


async def test_a_server_starts_without_its_port_for_nodes(machines, tmp_path, database, caplog):
    _, listens = await machines.token(ANY)  # and it stays open
    nodes = Nodes([], on_line=lambda _line: None)
    again = Machines(tmp_path, nodes, Rows(database), FakeIngress())
    await again.open()
    (tmp_path / "cluster" / "listens.json").write_text("{")
    await Machines(tmp_path, nodes, Rows(database), FakeIngress()).open()

    assert f"cannot be opened at 127.0.0.1:{listens.port}" in caplog.text
    assert "is damaged" in caplog.text


async def test_a_machine_that_is_removed_is_forgotten_and_its_token_is_used_up(
    machines, nodes, tmp_path
):
    await joined(machines, tmp_path, "a")
    await machines.remove("a")

    assert ([], {"here"}) == (machines.every(), nodes.mirrors.keys())
    with pytest.raises(NotFound):
        await machines.remove("a")
    with pytest.raises(Unauthorized, match="was used"):
        await machines.rows.join("0" * 64, "b", "1" * 32)


class There(FakeNode):
    """A second node."""

    def __init__(self, name: str) -> None:
        super().__init__(0.01)
        self.name = name


async def test_a_drained_node_gets_nothing_new_and_its_containers_are_leaving(nodes):
    changes = []
    nodes.watch(changes.append)
    nodes.add(There("b")).look()
    await until(lambda: nodes.mirrors["b"].takes, "the node")
    await nodes.start("b", order("ta-1"), {})
    await until(lambda: changes and changes[-1].state is State.READY, "a container")
    await nodes.drain("b", on=True)

    assert changes[-1].leaving
    await nodes.mirrors["b"].sync()
    assert all(each.leaving for each in nodes.containers())
    await nodes.start("b", order("ta-2"), {})
    await until(lambda: changes[-1].id == "ta-2" and changes[-1].leaving, "one that was on its way")
    assert {State.READY} == {each.state for each in nodes.containers()}
    assert [False, True] == ["b" in [m.name for m in nodes.taking()], "b" in nodes.mirrors]
    await nodes.drain("b", on=False)
    assert ["b", nodes.taking()[1].name] == [mirror.name for mirror in nodes.taking()]


async def test_the_containers_of_a_removed_node_are_lost(nodes):
    changes = []
    nodes.watch(changes.append)
    nodes.add(There("b")).look()
    await until(lambda: nodes.mirrors["b"].takes, "the node")
    await nodes.start("b", order("ta-1"), {})
    await until(lambda: changes and changes[-1].state is State.READY, "a container")
    nodes.remove("b")
    nodes.remove("b")

    assert State.LOST is changes[-1].state
    assert [] == nodes.containers()


async def with_a_container(nodes: Nodes, changes: list) -> There:
    """Have a node `b` with a container that is ready."""
    nodes.watch(changes.append)
    node = There("b")
    nodes.add(node).look()
    await until(lambda: nodes.mirrors["b"].takes, "the node")
    await nodes.start("b", order("ta-1"), {})
    await until(lambda: changes and changes[-1].state is State.READY, "a container")
    return node


@pytest.mark.parametrize("ends", [True, False])
async def test_containers_of_other_machines_end_with_the_server_unless_another_one_follows(
    machines, nodes, ends
):
    changes: list = []
    node = await with_a_container(nodes, changes)
    machines.ends = lambda: ends
    await machines.close()

    assert ends == (not node.containers)
    assert ends == (changes[-1].state is State.GONE)


async def test_the_end_of_the_server_does_not_wait_for_a_machine_that_is_silent(
    machines, nodes, caplog
):
    node = await with_a_container(nodes, [])
    node.is_cut = True
    await nodes.mirrors["b"].beat()
    assert Health.SUSPECT is nodes.mirrors["b"].health
    machines.ends = lambda: True
    async with asyncio.timeout(END_S / 2):
        await machines.close()

    assert node.containers
    assert "the node `b` does not answer: containers there continue" in caplog.text


async def test_a_machine_joins_with_labels_and_they_can_be_changed(machines, nodes, tmp_path):
    text, listens = await machines.token(ANY)
    where = Address(host=listens.host, port=listens.port)
    place = Place(tmp_path / "a")
    await dialing.join(place, where, "a", text, labels={"region": "eu", "disk": "ssd"})
    assert {"region": "eu", "disk": "ssd"} == nodes.mirrors["a"].labels
    await machines.label("a", {"region": "us", "disk": ""})

    assert {"region": "us"} == nodes.mirrors["a"].labels == machines.every()[0].labels
    with pytest.raises(NotFound):
        await machines.label("b", {"region": "us"})
    with pytest.raises(BadRequest, match="is not a label"):
        await machines.label("a", {"Region": "us"})


async def test_a_machine_with_wrong_labels_does_not_join_and_its_token_is_still_good(
    machines, tmp_path
):
    text, listens = await machines.token(ANY)
    where = Address(host=listens.host, port=listens.port)
    with pytest.raises(Unauthorized, match="is not a label"):
        await dialing.join(Place(tmp_path / "a"), where, "a", text, labels={"region": "a b"})
    await dialing.join(Place(tmp_path / "a"), where, "a", text)

    assert [{}] == [row.labels for row in machines.every()]


async def test_the_log_of_an_agent_that_is_not_connected_is_elsewhere(machines, tmp_path):
    await joined(machines, tmp_path, "a")
    with pytest.raises(NodeLost, match="is not connected") as caught:
        await machines.log_lines("a", 10, follow=False)
    with pytest.raises(NotFound):
        await machines.log_lines("b", 10, follow=False)

    assert "journalctl" in caught.value.hint


def test_another_machine_is_told_an_address_that_it_can_use():
    assert "10.0.0.1" == address_of(Listens(host="10.0.0.1", port=1))
    assert address_of(USUAL) not in ("0.0.0.0", "::")


async def test_a_machine_that_shares_the_volumes_may_mount_them_and_one_that_does_not_may_not(
    nodes, tmp_path, database
):
    shared = tmp_path / "shared"
    shared.mkdir()
    mark = volumes.open_shared(shared, tmp_path)
    made = Machines(tmp_path, nodes, Rows(database), FakeIngress(), shared_volumes=shared)
    await made.open()
    try:
        await joined(made, tmp_path, "a")
        remote, reports = made._remotes["a"], iter((mark, NOT_MARKED))

        async def about() -> About:
            said = next(reports)
            return About(
                now=0.0, homeport="1", free_bytes=1, certificate_until=1.0, shared_volumes=said
            )

        remote.about = about
        remote.connected.set()
        assert ("", False) == (made.volumes_of("a"), remote.shares_volumes)
        await made.facts.look()
        assert ("shared", True) == (made.volumes_of("a"), remote.shares_volumes)
        await made.facts.look()
        assert ("not marked", False) == (made.volumes_of("a"), remote.shares_volumes)
    finally:
        await made.close()


async def test_the_port_for_containers_of_nodes_is_beside_the_other_and_stays(
    machines, tmp_path, database
):
    ingress = machines._ingress
    _, listens = await machines.token(ANY)
    kept = json.loads((tmp_path / "cluster" / "listens.json").read_text())
    await machines.close()
    again_nodes, again_ingress = Nodes([], on_line=lambda _line: None), FakeIngress()
    again = Machines(tmp_path, again_nodes, Rows(database), again_ingress)
    try:
        await again.open()

        assert {"host": listens.host, "port": listens.port, "calls": ingress.admits} == kept
        assert ingress.admits == again_ingress.admits
        assert [("admit", "127.0.0.1")] == again_ingress.calls
    finally:
        await again.close()
        await again_nodes.close()


@pytest.mark.parametrize(
    ("host", "addresses", "own"),
    [
        ("0.0.0.0", ("127.0.0.2",), "0.0.0.0"),
        ("127.0.0.1", ("127.0.0.2",), "127.0.0.1"),
        (
            "203.0.113.1",
            ("203.0.113.2", "127.0.0.2"),
            "127.0.0.2",
        ),  # of the machine that led before
        ("203.0.113.1", ("203.0.113.2",), "203.0.113.1"),  # the error names what was wanted
    ],
)
def test_a_server_listens_at_an_address_of_the_machine_where_it_leads(host, addresses, own):
    assert own == own_of(host, addresses)
