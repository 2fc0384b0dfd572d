"""The private folder for work that must not leave half of anything."""

import os

import pytest

from homeport.contract.errors import StorageError
from homeport.state.workplace import workplace

LEFT = ".homeport-00000000.part"


def test_a_folder_is_for_this_user_alone_and_goes_also_after_an_error(tmp_path):
    before = os.umask(0)
    try:
        with pytest.raises(RuntimeError), workplace(tmp_path) as folder:
            (folder / "half").write_text("x")
            mode = folder.stat().st_mode & 0o777
            raise RuntimeError
    finally:
        os.umask(before)

    assert 0o700 == mode
    assert [] == os.listdir(tmp_path)


def test_the_folder_of_a_killed_process_goes_and_one_in_use_stays(tmp_path):
    (tmp_path / LEFT).mkdir()
    (tmp_path / LEFT / "half").write_text("x")
    with workplace(tmp_path) as used, workplace(tmp_path) as folder:
        assert {used.name, folder.name} == {*os.listdir(tmp_path)}


def test_the_folder_of_another_user_and_a_link_stay(tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("x")
    (tmp_path / ".homeport-link.part").symlink_to(tmp_path / "outside")
    with workplace(tmp_path):
        assert (tmp_path / "outside" / "file").exists()
    (tmp_path / LEFT).mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with workplace(tmp_path):
        assert (tmp_path / LEFT).exists()


def test_an_error_of_the_disk_says_where_and_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match=r"half: No space left") as caught, workplace(tmp_path):
        raise OSError(28, "No space left on device", "half")

    assert "df -h" in caught.value.hint
    assert [] == os.listdir(tmp_path)
