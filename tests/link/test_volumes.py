"""The mark of a directory of volumes that machines share."""

import os
import shutil

import pytest

from homeport.contract.errors import StorageError
from homeport.link import volumes
from homeport.link.volumes import MARK, NOT_MARKED


@pytest.fixture
def shared(tmp_path):
    directory = tmp_path / "shared"
    directory.mkdir()
    return directory


@pytest.fixture
def home(tmp_path):
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


def test_a_directory_is_marked_once_and_another_machine_finds_the_mark(shared, home):
    mark = volumes.open_shared(shared, home)

    assert mark == volumes.open_shared(shared, home) == volumes.reported(shared)
    assert "shared" == volumes.compared(volumes.reported(shared), mark)


def test_a_file_system_that_is_not_mounted_is_refused_on_the_server_and_reported_by_a_machine(
    shared, home
):
    mark = volumes.open_shared(shared, home)
    (shared / MARK).unlink()
    with pytest.raises(StorageError, match="does not have the mark") as caught:
        volumes.open_shared(shared, home)

    assert "is it mounted" in caught.value.hint
    assert NOT_MARKED == volumes.reported(shared) == volumes.compared(NOT_MARKED, mark)
    shared.rmdir()
    assert NOT_MARKED == volumes.reported(shared)
    with pytest.raises(StorageError, match="it does not exist"):
        volumes.open_shared(shared, home)


def test_the_directory_of_another_server_is_refused(shared, home, tmp_path):
    volumes.open_shared(shared, home)
    (tmp_path / "other").mkdir()
    with pytest.raises(StorageError, match="of another homeport"):
        volumes.open_shared(shared, tmp_path / "other")


def test_volumes_that_stayed_in_the_home_are_not_replaced_by_empty_ones(shared, home):
    volume = home / "volumes/main/main/vo-1/files"
    volume.mkdir(parents=True)
    (volume / "kept").write_text("x")
    with pytest.raises(StorageError, match="and not in") as caught:
        volumes.open_shared(shared, home)
    assert "rsync" in caught.value.hint
    assert not (shared / MARK).exists()
    shutil.copytree(home / "volumes", shared, dirs_exist_ok=True)

    assert volumes.open_shared(shared, home)


def test_a_mark_that_is_no_text_and_endless_is_that_of_another_server(shared, home, tmp_path):
    mark = volumes.open_shared(shared, home)
    (shared / MARK).write_bytes(b"\xff" * 10**6)

    assert NOT_MARKED == volumes.compared(volumes.reported(shared), mark)
    assert len(volumes.reported(shared)) < 200
    with pytest.raises(StorageError, match="does not have the mark"):
        volumes.open_shared(shared, home)
    with pytest.raises(StorageError, match="of another homeport"):
        volumes.open_shared(shared, tmp_path)


def test_the_agent_of_another_user_may_read_the_mark_and_no_one_the_record(shared, home):
    before = os.umask(0o077)
    try:
        volumes.open_shared(shared, home)
    finally:
        os.umask(before)

    assert [0o644, 0o600] == [
        path.stat().st_mode & 0o777 for path in (shared / MARK, home / volumes.RECORD)
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}'])
def test_a_damaged_record_is_never_taken_for_none(shared, home, text):
    volumes.open_shared(shared, home)
    (home / volumes.RECORD).write_text(text)

    for look in (lambda: volumes.open_shared(shared, home), lambda: volumes.check_none(home)):
        with pytest.raises(StorageError, match="is damaged"):
            look()


def test_a_setting_that_is_taken_away_leaves_no_volume_empty(shared, home):
    volumes.check_none(home)
    volumes.open_shared(shared, home)
    with pytest.raises(StorageError, match="and `shared_volumes` is not set"):
        volumes.check_none(home)


def test_a_directory_that_was_moved_with_its_mark_is_taken(shared, home, tmp_path):
    mark = volumes.open_shared(shared, home)
    shared.rename(tmp_path / "elsewhere")

    assert mark == volumes.open_shared(tmp_path / "elsewhere", home)


def test_machines_with_other_users_do_not_share(shared, home, monkeypatch):
    mark = volumes.open_shared(shared, home)
    monkeypatch.setattr(volumes.identity, "own", lambda: None)
    monkeypatch.setattr(volumes.os, "geteuid", lambda: 12345)

    assert "other users" == volumes.compared(volumes.reported(shared), mark)
