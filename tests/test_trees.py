"""The walk of a directory whose content others delete meanwhile."""

import shutil
from pathlib import Path

from tests import trees


def test_all_that_lies_below_a_directory_is_found(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("a")

    assert ["a", "a/b", "a/b/file", "link"] == [
        str(path.relative_to(tmp_path)) for path in trees.paths(tmp_path)
    ]
    assert {tmp_path / "a/b/file": b"1"} == trees.files(tmp_path)
    assert [] == trees.sockets(tmp_path)


def test_a_directory_that_goes_between_its_name_and_its_list_is_no_failure(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    listed = trees.os.walk

    def walk(directory: Path):
        for entry in listed(directory):
            shutil.rmtree(tmp_path / "b", ignore_errors=True)  # it has been named by now
            yield entry

    monkeypatch.setattr(trees.os, "walk", walk)

    assert {tmp_path / "a/file": b"a"} == trees.files(tmp_path)
