"""A container's tunnels at its node: only a fresh Unix socket gets an address, and only so many."""

import os
import select
import socket

import pytest

from homeport.contract.container import MAX_TUNNELS
from homeport.node.containers import door as doors
from homeport.node.containers.tunnels import Tunnels
from tests.waiting import wait_for

NAME = "0" * 20


@pytest.fixture(params=["path", "abstract"])
def tunnels(request, tmp_path):
    made = Tunnels("ta-1", tmp_path if request.param == "path" else None)
    yield made
    made.close_all()


def fresh() -> tuple[socket.socket, int]:
    """Return a container's socket, and the descriptor that its node gets."""
    listener = socket.socket(socket.AF_UNIX)
    return listener, os.dup(listener.fileno())


def test_the_container_accepts_what_comes_to_the_address(tunnels):
    listener, descriptor = fresh()
    with listener, socket.socket(socket.AF_UNIX) as visitor:
        assert tunnels.open(NAME, 8000, descriptor)
        (tunnel,) = tunnels.all
        visitor.connect(doors.path(tunnel.address))
        accepted, _ = listener.accept()
        accepted.close()
        assert (NAME, 8000) == (tunnel.name, tunnel.port)
        assert tunnels.close(NAME)
        assert not tunnels.close(NAME)
    with socket.socket(socket.AF_UNIX) as visitor, pytest.raises(OSError):
        visitor.connect(doors.path(tunnel.address))


def _has_no_reader(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def test_nothing_but_a_fresh_unix_socket_gets_an_address(tunnels, tmp_path):
    taken = socket.socket(socket.AF_UNIX)
    taken.bind(str(tmp_path / "mine"))
    one, other = socket.socketpair()
    with (
        taken,
        one,
        other,
        socket.socket() as internet,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters,
    ):
        for wrong in (taken, one, internet, letters):
            with pytest.raises(ValueError, match="not a new socket"):
                tunnels.open(NAME, 8000, os.dup(wrong.fileno()))
    read, write = os.pipe()
    with pytest.raises(ValueError, match="not a new socket"):
        tunnels.open(NAME, 8000, read)
    wait_for(lambda: _has_no_reader(write), "the end of the other end")
    os.close(write)
    assert not tunnels.open(NAME, 8000, None)
    assert () == tunnels.all


def test_a_container_has_only_so_many_and_a_closed_one_makes_room(tunnels):
    opened = []
    for number in range(MAX_TUNNELS + 1):
        listener, descriptor = fresh()
        opened.append(listener)
        if number < MAX_TUNNELS:
            assert tunnels.open(f"{number:020x}", 8000, descriptor)
        else:
            with pytest.raises(ValueError, match="too many"):
                tunnels.open(f"{number:020x}", 8000, descriptor)
    assert len({tunnel.address for tunnel in tunnels.all}) == MAX_TUNNELS
    assert tunnels.close(f"{3:020x}")
    listener, descriptor = fresh()
    opened.append(listener)
    assert tunnels.open(f"{99:020x}", 8000, descriptor)
    for each in opened:
        each.close()
