"""When a standby may lead: the lock of the home, what its leader has noted there, and the database's lock."""

import os
import socket
import subprocess
import sys

import pytest

from homeport.contract.errors import AlreadyExists, StorageError
from homeport.contract.starting import LOCK
from homeport.control import standby
from homeport.control.standby import HANDS_OVER, LEADS
from homeport.settings import Settings


class Claimed:
    """A database that is free, or that a leader has; `during` is called while this process claims it."""

    def __init__(self, *, free: bool = True, during=lambda: None) -> None:
        self.story: list[str] = []
        self._free, self._during = free, during

    def claim(self) -> None:
        self.story.append("claim")
        self._during()
        if not self._free:
            raise StorageError("another server uses it")

    def dispose(self) -> None:
        self.story.append("dispose")


@pytest.mark.parametrize(
    ("noted", "free", "lost", "story"),
    [
        ("", True, False, []),  # it starts, and has not claimed it yet
        (LEADS, True, True, ["claim"]),
        (LEADS, False, False, ["claim"]),
        (HANDS_OVER, True, False, []),
    ],
)
def test_a_database_is_taken_only_from_a_leader_that_leads(tmp_path, noted, free, lost, story):
    database = Claimed(free=free)
    with standby.led(tmp_path / LOCK) as is_mine:
        assert is_mine
        if noted:
            standby.note(tmp_path, noted)

        assert lost == standby._has_lost(tmp_path / LOCK, database)
    assert story == database.story


def test_a_database_that_is_handed_over_at_that_moment_is_given_back(tmp_path):
    database = Claimed(during=lambda: standby.note(tmp_path, HANDS_OVER))
    with standby.led(tmp_path / LOCK):
        standby.note(tmp_path, LEADS)

        assert not standby._has_lost(tmp_path / LOCK, database)
    assert ["claim", "dispose"] == database.story


def test_the_next_server_of_a_leader_that_hands_over_comes_first_for_a_while(tmp_path):
    path = tmp_path / LOCK
    with standby.led(path):
        standby.note(tmp_path, HANDS_OVER)
    just_now = standby._is_handed_over(path)
    before = path.stat().st_mtime - standby.HAND_OVER_S
    os.utime(path, (before, before))
    later = standby._is_handed_over(path)
    with standby.led(path):
        standby.note(tmp_path, LEADS)

    assert (True, False) == (just_now, later)
    assert not standby._is_handed_over(path)


def test_a_new_leader_takes_away_what_the_last_one_has_noted(tmp_path):
    path = tmp_path / LOCK
    with standby.led(path):
        standby.note(tmp_path, LEADS)
    with standby.led(path):
        assert [f"{os.getpid()}", ""] == path.read_text().split("\n")[:2]


def test_a_leader_of_another_machine_is_never_killed(tmp_path, monkeypatch):
    path = tmp_path / LOCK
    script = "import sys, time; from homeport.control import standby; print(1, flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", script, "homeport.control"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        server.stdout.readline()
        path.write_text(f"{server.pid}\n{LEADS}\n{standby._machine()}\n")
        here = standby._leader(path)
        path.write_text(f"{server.pid}\n{LEADS}\n")  # of an earlier version
        earlier = standby._leader(path)
        path.write_text(f"{server.pid}\n{LEADS}\nanother {'0' * 8}\n")
        elsewhere = standby._leader(path)
        server.stdin.close()

    assert (server.pid, server.pid, 0) == (here, earlier, elsewhere)


def test_only_a_standby_of_this_machine_may_take_over_what_runs_here(tmp_path):
    path = tmp_path / standby.WAITING
    assert not standby.is_waiting_here(tmp_path)
    with path.open("a+") as waiting:
        assert standby._lock(waiting)
        path.write_text(f"{standby._machine()}\n")
        assert standby.is_waiting_here(tmp_path)
        path.write_text("another\n")
        assert not standby.is_waiting_here(tmp_path)
    assert not standby.is_waiting_here(tmp_path)


@pytest.mark.parametrize(
    ("postgres", "free", "may"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_a_standby_waits_until_the_database_has_noticed_the_end_of_the_leader(postgres, free, may):
    database = Claimed(free=free)
    database.postgres = postgres

    assert may == standby._may_claim(database)


def test_a_standby_leaves_a_machine_alone_whose_ingress_still_answers(tmp_path):
    def settings(addresses: str = "127.0.0.1") -> Settings:
        return Settings(home=tmp_path, standby_addresses=addresses)

    def written(directory, port: int) -> None:
        (directory / "ingress").mkdir(parents=True)
        (directory / "ingress" / "port").write_text(f"{port}")

    with socket.create_server(("127.0.0.1", 0)) as ingress:
        written(settings().run_dir, ingress.getsockname()[1])
        assert not standby._answers_elsewhere(settings())  # it is this machine's own
        written(tmp_path / "run-another", ingress.getsockname()[1])
        assert standby._answers_elsewhere(settings())
        with pytest.raises(AlreadyExists, match="HAProxy on another machine answers"):
            standby.check_alone(settings())
        assert not standby._answers_elsewhere(settings(""))
    standby.check_alone(settings())


HANGS = """
import sys, time
from pathlib import Path
from homeport.contract.starting import LOCK
from homeport.control import standby
home = Path(sys.argv[1])
with standby.led(home / LOCK):
    standby.note(home, sys.argv[2])
    print("has it", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("noted", [LEADS, HANDS_OVER])
def test_a_leader_that_hangs_is_killed_whatever_it_has_noted(tmp_path, noted, monkeypatch):
    monkeypatch.setattr(standby, "PATIENCE_S", 0.0)
    words = [sys.executable, "-c", HANGS, str(tmp_path), noted, "homeport.control"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as hanging:
        try:
            assert b"has it\n" == hanging.stdout.readline()
            standby._replace(tmp_path / LOCK)

            assert -9 == hanging.wait(60)
        finally:
            hanging.kill()
