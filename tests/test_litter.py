"""The socket directories of killed servers are removed; those in use stay."""

import os
import socket
import subprocess
import sys

import pytest

from tests import namespaces
from tests.litter import held, remove_clocks, remove_dead
from tests.waiting import wait_for


def test_only_a_directory_where_nobody_listens_is_removed(tmp_path):
    dead, used, new = (tmp_path / f"homeport-{os.getuid()}-{name}" for name in ("d", "u", "n"))
    postgres = tmp_path / "homeport-pg-d"
    postgres.mkdir()
    os.utime(postgres, (1.0, 1.0))
    for each in (dead, used, new):
        each.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(used / "control.sock"))
        listener.listen()
        for each in (dead, used):
            os.utime(each, (1.0, 1.0))
        remove_dead(tmp_path, tmp_path)
    assert sorted(each.name[-1] for each in tmp_path.iterdir()) == ["n", "u"]


def test_a_directory_that_another_process_holds_stays(tmp_path):
    directory = tmp_path / "homeport-pg-d"
    directory.mkdir()
    os.utime(directory, (1.0, 1.0))
    with held(directory):
        remove_dead(tmp_path, tmp_path)
        stays = directory.exists()
    remove_dead(tmp_path, tmp_path)

    assert (True, False) == (stays, directory.exists())


@pytest.mark.skipif(not namespaces.FAKETIME.exists(), reason="libfaketime is not installed")
def test_files_of_moved_clocks_stay_while_a_process_has_one(tmp_path):
    old, new = tmp_path / "faketime_shm_1", tmp_path / "sem.faketime_sem_2"
    for each in (old, new):
        each.touch()
    os.utime(old, (1.0, 1.0))
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env=namespaces.later({}, 60),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as moved:
        moved.stdout.readline()
        remove_clocks(tmp_path)
        stays = old.exists()
        moved.communicate(b"\n")
    assert stays

    def removed() -> bool:
        remove_clocks(tmp_path)
        return not old.exists()

    wait_for(removed, "no other test to have such a process")
    assert new.exists()
