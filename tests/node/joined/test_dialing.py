"""A machine whose clock is wrong joins or not, and does not forget that it has joined. `tests/link/test_listener.py` has the rest."""

import datetime as dt
import time
import types

import pytest

from homeport import private, signing
from homeport.contract.errors import BadRequest, Failure
from homeport.link import authority, listener
from homeport.link.identity import Identity
from homeport.node.joined import dialing
from homeport.node.joined.dialing import Dialer
from homeport.node.joined.place import USUAL, Address, Place
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
    place.write("n", where(cluster), USUAL, pair)
    clock(monkeypatch, off_s)
    served = types.SimpleNamespace(refused=None)
    dialer = Dialer(served, place, where(cluster), types.SimpleNamespace(port=0), reach="")

    assert why in await dialer._once()
    assert final == (served.refused is not None and served.refused.final)
