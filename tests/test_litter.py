"""The socket directories of killed servers are removed; those in use stay."""

import os
import socket

from tests.litter import held, remove_dead


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
