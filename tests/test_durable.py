"""What a power cut takes nothing of."""

import errno
import os

import pytest

from homeport import durable


@pytest.fixture
def synced(monkeypatch) -> list[str]:
    """The paths that are written through to the disk, in order."""
    paths: list[str] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return paths


def test_a_file_and_a_folder_can_be_synced(tmp_path, synced):
    (tmp_path / "file").touch()
    durable.sync(tmp_path / "file")
    durable.sync(tmp_path)

    assert [str(tmp_path / "file"), str(tmp_path)] == synced


def test_a_file_system_is_synced_by_a_path_and_by_a_descriptor(tmp_path):
    durable.sync_all(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    durable.sync_all(descriptor)
    os.close(descriptor)

    with pytest.raises(OSError, match="syncfs") as failed:
        durable.sync_all(descriptor)
    assert errno.EBADF == failed.value.errno


def test_no_descriptor_stays_open(tmp_path):
    durable.sync(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    durable.sync(tmp_path)
    durable.sync_all(tmp_path)

    assert before == len(os.listdir("/proc/self/fd"))


def test_the_start_of_the_machine_has_one_id():
    assert durable.boot() == durable.boot() != ""
