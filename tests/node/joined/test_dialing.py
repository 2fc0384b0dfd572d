"""A machine whose clock is wrong joins or not, and does not forget that it has joined. `tests/link/test_listener.py` has the rest."""

import contextlib
import datetime as dt
import socket
import time
import types

import pytest

from homeport import private, signing
from homeport.contract.errors import BadRequest, Failure, Unauthorized
from homeport.link import authority, listener
from homeport.link.identity import Identity
from homeport.link.messages import Welcome
from homeport.node.joined import dialing
from homeport.node.joined.dialing import Dialer
from homeport.node.joined.place import USUAL, Address, Place
from tests import ports
from tests.link.cluster import cluster as make_cluster

HOUR_S = 3600.0


@pytest.fixture
async def cluster(tmp_path):
    async with make_cluster(tmp_path) as made:
        yield made


def where(cluster) -> Address:
    return Address(host="127.0.0.1", port=cluster.port)


def clock(monkeypatch, off_s: float) -> None:
    """Let the control plane's clock be so far ahead of the machine's."""
    late = types.SimpleNamespace(time=lambda: time.time() + off_s)
    monkeypatch.setattr(listener, "time", late)


def begins_in(cluster, monkeypatch, hours: float) -> None:
    """Let the control plane's certificate begin later, by the machine's clock."""
    monkeypatch.setattr(signing, "SKEW", -dt.timedelta(hours=hours))
    cluster.authority.renew()
    cluster.listener._context.load_cert_chain(cluster.authority.pair)


async def test_of_several_machines_the_one_that_takes_a_connection_is_the_control_plane(cluster):
    nobody = Address(host="127.0.0.1", port=ports.free_port())
    silent = Address(host="127.0.0.1", port=ports.free_port())
    with (
        socket.create_server((silent.host, silent.port), backlog=0),
        contextlib.ExitStack() as full,
    ):
        for _ in range(3):  # then the kernel answers nobody, as a machine that is gone
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((silent.host, silent.port))
        assert where(cluster) == await dialing.answering((silent, nobody, where(cluster)))
        with pytest.raises(OSError, match="no control plane answers"):
            await dialing.answering((silent, nobody))
    assert nobody == await dialing.answering((nobody,))  # the connection itself says what is wrong


async def test_an_agent_keeps_where_the_control_plane_may_be_and_asks_another_one_than_failed(
    tmp_path,
):
    place, first = Place(tmp_path), Address(host="10.0.0.1", port=7700)
    other = Address(host="10.0.0.2", port=7700)
    dialer = Dialer(None, place, first, None, reach="")
    assert (first,) == tuple(dialer._everywhere())
    await dialer._note(Welcome(name="n", addresses=("10.0.0.1", "10.0.0.2")))
    assert (first, other) == tuple(dialer._everywhere())
    later = Dialer(None, place, first, None, reach="")
    assert (first, other) == tuple(later._everywhere())
    later._doubtful = first
    assert [other] == later._everywhere()
    await later._note(Welcome(name="n"))
    assert (first,) == tuple(later._everywhere())
    place._others.write_text("[7")
    assert () == place.others()


@pytest.mark.parametrize(("off_s", "way"), [(6 * HOUR_S, "behind"), (-6 * HOUR_S, "ahead of")])
async def test_a_machine_whose_clock_is_hours_off_is_told_so_when_it_joins(
    cluster, tmp_path, monkeypatch, off_s, way
):
    begins_in(cluster, monkeypatch, 5)
    clock(monkeypatch, off_s)
    with pytest.raises(BadRequest, match=f"this machine is 360 minutes {way} that of") as caught:
        await dialing.join(Place(tmp_path / "n"), where(cluster), "n", cluster.token())

    assert "set-ntp" in caught.value.hint


async def test_the_certificate_itself_is_the_reason_if_the_clocks_agree(
    cluster, tmp_path, monkeypatch
):
    begins_in(cluster, monkeypatch, 5)
    with pytest.raises(Failure, match="is not yet valid: by the clock of this machine it is 20"):
        await dialing.join(Place(tmp_path / "n"), where(cluster), "n", cluster.token())


@pytest.mark.parametrize(
    ("off_s", "why", "final"),
    [
        (-24 * HOUR_S, "by the clock of this machine, its certificate has ended: the clock", False),
        (0.0, "this machine was away for longer than its certificate is valid", True),
    ],
)
async def test_a_machine_forgets_that_it_has_joined_only_if_the_control_plane_has_the_same_time(
    cluster, tmp_path, monkeypatch, off_s, why, final
):
    place, node = Place(tmp_path / "n"), Identity(name="n", id="0" * 32)
    key, csr = authority.request()
    pair = key + cluster.authority.sign(csr, node, days=-0.01).encode()
    private.write(place.ca, cluster.authority.pem.encode())
    place.write("n", where(cluster), USUAL, cluster.authority.certificate.read_bytes(), pair)
    clock(monkeypatch, off_s)
    served = types.SimpleNamespace(refused=None)
    # The control plane has moved to another machine since this one joined.
    nobody = Address(host="127.0.0.1", port=ports.free_port())
    dialer = Dialer(served, place, nobody, types.SimpleNamespace(port=0), reach="")
    dialer._others = (where(cluster),)

    assert why in await dialer._once()
    assert final == (served.refused is not None and served.refused.final)


async def test_a_machine_that_another_control_plane_refuses_stays_a_node_of_its_own(
    cluster, tmp_path
):
    place = Place(tmp_path / "n")
    await dialing.join(place, where(cluster), "n", cluster.token())
    before = {path.name: path.read_bytes() for path in place.directory.iterdir()}
    async with make_cluster(tmp_path / "other") as other:
        used = other.token()
        other.registry.tokens.clear()
        with pytest.raises(Unauthorized):
            await dialing.join(place, where(other), "m", used)

    assert before == {path.name: path.read_bytes() for path in place.directory.iterdir()}


async def test_an_agent_whose_certificate_is_damaged_tries_again_and_does_not_end(
    cluster, tmp_path, caplog
):
    """Its end would be that of its containers."""
    place = Place(tmp_path / "n")
    await dialing.join(place, where(cluster), "n", cluster.token())
    place.pair.write_bytes(b"damaged")
    dialer = Dialer(None, place, where(cluster), None, reach="")

    assert await dialer._once()
    assert "the connection has failed" in caplog.text
