"""The ways out of containers, of several servers on one machine."""

import os
import signal
import subprocess
import sys

import pytest

from homeport.node.cells import networks
from homeport.node.cells.networks import Networks
from tests import isolation


@pytest.mark.skipif(os.getuid() != 0, reason="root alone")
def test_a_cable_that_another_server_has_just_laid_is_left_alone(tmp_path, monkeypatch):
    told = isolation.needed()
    both = [Networks(told), Networks(told)]
    if not both[0].connects:
        pytest.skip("no cables here")
    monkeypatch.setattr(networks, "INTERFACES", tmp_path)  # neither sees what the other has
    first = both[0]._lay_cable()
    try:
        second = both[1]._lay_cable()
        assert first != second
        networks.network.remove(networks.Cable(second))
    finally:
        networks.network.remove(networks.Cable(first))


def test_a_networks_program_is_ended_by_what_it_was_told_and_no_other_one(tmp_path):
    noted = tmp_path / networks.PID
    # As `pasta` where the processor has AVX2: another program by its name.
    words = [sys.executable, "-c", "input()"]
    helper = subprocess.Popen([*words, "--pid", noted], stdin=subprocess.PIPE)
    other = subprocess.Popen([*words, "--pid", f"{noted}2"], stdin=subprocess.PIPE)
    try:
        for process in (other, helper):
            noted.write_text(f"{process.pid}\n")
            networks.end(tmp_path)

        assert -signal.SIGTERM == helper.wait(60)
        assert other.poll() is None
    finally:
        for process in (helper, other):
            process.kill()
            process.wait()
            process.stdin.close()


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.0.0.1\n"),
        ("nameserver 10.0.0.2\n", ""),
    ],
)
def test_a_cell_asks_the_machines_own_resolver_where_it_cannot_reach_the_one_on_the_loopback(
    tmp_path, monkeypatch, configured, expected
):
    for name, text in (("CONFIGURED", configured), ("RESOLVED", "nameserver 10.0.0.1\n")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(networks, name, tmp_path / name)

    assert expected == networks.resolvers()


@pytest.mark.parametrize(
    ("user", "connects", "fails", "logged"),
    [
        (0, True, False, ""),
        (0, True, True, "credentials of this machine's cloud: no room"),
        (0, False, False, "credentials of this machine's cloud: `nft` is missing"),
        (1000, False, False, ""),
    ],
)
def test_the_log_says_that_nothing_keeps_containers_from_the_clouds_credentials(
    monkeypatch, caplog, user, connects, fails, logged
):
    guarded = []

    def guard() -> None:
        guarded.append(True)
        if fails:
            raise OSError("no room")

    monkeypatch.setattr(networks.os, "getuid", lambda: user)
    monkeypatch.setattr(networks.network, "guard", guard)
    made = object.__new__(Networks)
    made.connects = connects
    made.guard()

    assert connects == bool(guarded)
    assert logged in caplog.text
    assert bool(logged) == bool(caplog.records)
