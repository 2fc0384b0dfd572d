"""Files that nobody else may read."""

import os
import stat
from pathlib import Path

import pytest

from homeport import private
from homeport.contract.errors import StorageError


def test_a_file_is_replaced_whole_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "new" / "key.pem"
    before = os.umask(0)
    try:
        private.write(path, b"first")
        private.write(path, b"second")
    finally:
        os.umask(before)

    assert b"second" == path.read_bytes()
    assert [0o700, 0o600] == [stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path)]
    assert [path] == list(path.parent.iterdir())


def test_a_power_cut_takes_neither_the_file_nor_its_name(tmp_path, monkeypatch):
    """The content is on the disk before the file has its name, and the name when `write` returns."""
    path, synced = tmp_path / "key.pem", []

    def recorded(descriptor: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")), path.exists()))

    monkeypatch.setattr(os, "fsync", recorded)
    private.write(path, b"first")

    (part, named), *folder = synced
    assert (tmp_path, False) == (part.parent, named)
    assert [(tmp_path, True)] == folder


def test_after_an_error_the_earlier_file_stays_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "key.pem"
    private.write(path, b"first")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        private.write(path, b"second")

    assert b"first" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_a_file_that_somebody_put_in_the_place_is_never_written_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FileExistsError), private.created(tmp_path / "link"):
        pass

    assert not (tmp_path / "elsewhere").exists()


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"of somebody")
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere")
    private.write(tmp_path / "key.pem", b"mine")

    assert b"of somebody" == (tmp_path / "elsewhere").read_bytes()
    assert b"mine" == (tmp_path / "key.pem").read_bytes()


def test_a_directory_is_for_this_user_alone_and_a_link_is_refused(tmp_path):
    own, link = tmp_path / "a" / "b", tmp_path / "link"
    own.mkdir(parents=True, mode=0o755)
    private.directory(own)
    link.symlink_to(own)

    assert 0o700 == own.stat().st_mode & 0o777
    with pytest.raises(StorageError, match="is a link"):
        private.directory(link)


def test_the_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StorageError, match="belongs to another user"):
        private.directory(tmp_path)


def test_a_file_may_have_the_longest_name_that_there_is(tmp_path):
    private.write(tmp_path / ("x" * 255), b"content")

    assert ["x" * 255] == os.listdir(tmp_path)
