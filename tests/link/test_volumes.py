"""The mark of a directory of volumes that machines share."""

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
