"""The files that a node may read: those of its orders' trees, and no other."""

import hashlib
import os

import pytest

from homeport.contract.errors import NotFound, StorageError
from homeport.link import offered as module
from homeport.link.offered import Offered


@pytest.fixture
def offered(tmp_path):
    tree = tmp_path / "rv-1"
    (tree / "package").mkdir(parents=True)
    (tree / "package" / "__pycache__").mkdir()
    (tree / "package" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (tree / "script.py").write_text("a = 1")
    (tree / "package" / "run.sh").write_text("#!/bin/sh")
    (tree / "package" / "run.sh").chmod(0o777)
    (tmp_path / "rv-2").mkdir()
    (tmp_path / "rv-2" / "secret.py").write_text("of another app")
    made = Offered(tmp_path)
    made.offer("rv-1")
    return made


def test_the_files_of_an_offered_tree_are_listed_and_read(offered):
    told = {entry.path: entry for entry in offered.entries("rv-1")}
    script = told["script.py"]

    assert {"script.py": 0o644, "package/run.sh": 0o755} == {p: e.mode for p, e in told.items()}
    assert (hashlib.sha256(b"a = 1").hexdigest(), 5) == (script.sha256, script.size_bytes)
    assert [b"a = 1", b"= 1", b""] == [
        offered.piece("rv-1", script.sha256, at).data for at in (0, 2, 99)
    ]


@pytest.mark.parametrize("tree", ["rv-2", "..", ".", "", "rv-1/../rv-2", "/etc", "rv-1\0"])
def test_a_tree_that_was_not_offered_is_not_there(offered, tree):
    for asked in (lambda: offered.entries(tree), lambda: offered.piece(tree, "0" * 64, 0)):
        with pytest.raises(NotFound):
            asked()


@pytest.mark.parametrize("sha256", ["", "../script.py", "0" * 64, "script.py"])
def test_a_file_is_only_read_by_the_hash_that_was_listed(offered, sha256):
    offered.entries("rv-1")
    with pytest.raises(NotFound):
        offered.piece("rv-1", sha256, 0)


@pytest.mark.parametrize("offset", [-1, 2**63, 2**100])
def test_an_offset_that_cannot_be_is_refused(offered, offset):
    sha256 = offered.entries("rv-1")[0].sha256
    with pytest.raises(NotFound):
        offered.piece("rv-1", sha256, offset)


def test_links_and_pipes_are_left_out_and_a_file_that_becomes_a_link_is_not_followed(
    offered, tmp_path
):
    tree = tmp_path / "rv-1"
    (tree / "passwd").symlink_to("/etc/passwd")
    (tree / "etc").symlink_to("/etc")
    listed = {entry.path: entry for entry in offered.entries("rv-1")}
    sha256 = listed["script.py"].sha256
    (tree / "script.py").unlink()
    (tree / "script.py").symlink_to("/etc/passwd")

    assert {"script.py", "package/run.sh"} == listed.keys()
    with pytest.raises(NotFound):
        offered.piece("rv-1", sha256, 0)


def test_a_pipe_does_not_hang_the_list(offered, tmp_path):
    os.mkfifo(tmp_path / "rv-1" / "pipe")
    with pytest.raises(StorageError):
        offered.entries("rv-1")


def test_the_trees_beside_it_may_be_missing_and_the_tree_of_an_older_order_is_forgotten(
    offered, monkeypatch
):
    assert () == offered.entries("rv-1.outside") == offered.entries("rv-1.build")
    monkeypatch.setattr(module, "MOST_TREES", 2)
    for number in range(2, 5):
        offered.offer(f"rv-{number}")

    with pytest.raises(NotFound):
        offered.entries("rv-1")


def test_an_offered_tree_that_has_gone_is_an_error_that_names_it(offered):
    offered.offer("rv-9")
    with pytest.raises(NotFound, match="`rv-9` is not there any more"):
        offered.entries("rv-9")


def test_a_tree_with_too_many_files_is_an_error(offered, monkeypatch):
    monkeypatch.setattr(module, "MOST_FILES", 1)
    with pytest.raises(StorageError, match="more than 1 files"):
        offered.entries("rv-1")
