"""Files below one directory in which an attacker has put everything that a container can make."""

import contextlib
import os
import stat
import threading

import pytest

from homeport import beneath
from homeport.tree import MAX_DEPTH, Tree


@pytest.fixture
def outside(tmp_path):
    """Files outside the root with the same names, which must not be reached."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_text("secret")
    return directory


@pytest.fixture(params=["openat2", "step by step"])
def files(tmp_path, monkeypatch, request):
    """A tree that resolves paths by the kernel, and one that does it as on old kernels."""
    if request.param == "step by step":
        monkeypatch.setattr(beneath, "OPENAT2", 100_000)
    for name in ("root", "staging"):
        (tmp_path / name).mkdir()
    return Tree(str(tmp_path / "root"), staging=str(tmp_path / "staging"))


def write(files: Tree, path: str, text: str = "text", **options) -> None:
    writing = files.begin(path, **options)
    try:
        writing.write(text.encode())
        writing.finish()
    finally:
        writing.abort()


def read(files: Tree, path: str) -> str:
    with open(files.open(path), encoding="utf-8") as file:
        return file.read()


def paths(files: Tree, path: str = "", **options) -> list[str]:
    return [entry.path for entry in files.entries(path, **options)]


def test_no_program_that_starts_meanwhile_gets_an_open_file(files):
    write(files, "a/b.txt")
    descriptor = files.open("a/b.txt")
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_a_link_that_has_taken_the_place_of_a_file_is_not_followed_by_who_has_listed_the_file(
    files,
):
    write(files, "there")
    files.symlink("link", "there")

    with pytest.raises(OSError, match="link"):
        files.open("link", follows=False)


def test_a_written_file_can_be_listed_and_read(files, tmp_path):
    write(files, "/a/b/c.txt", "hello", mode=0o4755)

    assert "hello" == read(files, "a/b/c.txt")
    assert ["a", "a/b", "a/b/c.txt"] == paths(files, recursive=True)
    assert ["a/b/c.txt"] == paths(files, "a/b") == paths(files, "a/b/c.txt")
    assert 0o100755 == (tmp_path / "root/a/b/c.txt").stat().st_mode
    assert [] == os.listdir(tmp_path / "staging")


@pytest.mark.parametrize(
    "path", ["../outside/secret", "a/../../outside/secret", "a\0b", "x" * 5000]
)
def test_a_path_that_cannot_be_meant_is_refused(files, path):
    for attempt in (files.open, files.begin, files.remove, lambda p: list(files.entries(p))):
        with pytest.raises(ValueError, match="path"):
            attempt(path)


@pytest.mark.parametrize("link", ["absolute", "relative", "directory"])
def test_no_link_leads_out(files, outside, tmp_path, link):
    root = tmp_path / "root"
    target = {"absolute": outside / "secret", "relative": "../outside/secret"}
    path = "bad"
    if link == "directory":
        (root / "bad").symlink_to(outside)
        path = "bad/secret"
    else:
        (root / "bad").symlink_to(target[link])

    with pytest.raises(OSError, match=r"leads out|is a link|Not a directory"):
        files.open(path)
    if link == "directory":
        for attempt in (files.begin, files.remove, lambda p: list(files.entries(p))):
            with pytest.raises(OSError, match=r"leads out|is a link|Not a directory"):
                attempt(path)
    write(files, "bad", "mine", force=True)

    assert "mine" == read(files, "bad"), "the link is replaced and not followed"
    assert "secret" == (outside / "secret").read_text()


def test_a_link_to_a_directory_outside_is_removed_and_its_target_is_not(files, outside, tmp_path):
    (tmp_path / "root/dir").mkdir()
    (tmp_path / "root/dir/link").symlink_to(outside)
    files.remove("dir", recursive=True)

    assert [] == paths(files)
    assert ["secret"] == os.listdir(outside)


def test_a_directory_that_becomes_a_link_at_any_moment_leads_nowhere(files, outside, tmp_path):
    root = tmp_path / "root"
    write(files, "secret/secret", "mine")
    (outside / "leak").touch()
    ended = threading.Event()

    def swap():
        steps = (
            lambda: (root / "secret").rename(root / "aside"),
            lambda: (root / "secret").symlink_to(outside),
            lambda: (root / "secret").unlink(),
            lambda: (root / "aside").rename(root / "secret"),
        )
        while not ended.is_set():
            for step in steps:
                with contextlib.suppress(OSError):  # a write has made the directory meanwhile
                    step()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                assert "mine" == read(files, "secret/secret")
            with contextlib.suppress(OSError):
                assert "secret/leak" not in paths(files, "secret")
            with contextlib.suppress(OSError):
                write(files, "secret/new", force=True)
    finally:
        ended.set()
        swapping.join()

    assert ["leak", "secret"] == sorted(os.listdir(outside))
    assert "secret" == (outside / "secret").read_text()


def test_a_link_within_the_tree_may_be_read(tmp_path):
    files = Tree(str(tmp_path))
    write(files, "blobs/x", "model")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots/x").symlink_to("../blobs/x")

    assert "model" == read(files, "snapshots/x")


def test_a_pipe_or_a_socket_is_not_waited_for(files, tmp_path):
    os.mkfifo(tmp_path / "root/fifo")
    os.mknod(tmp_path / "root/socket", stat.S_IFSOCK | 0o600)
    (tmp_path / "root/dir").mkdir()

    for path, text in (
        ("fifo", "not a regular"),
        ("socket", "No such device"),
        ("dir", "is a directory"),
    ):
        with pytest.raises(OSError, match=text):
            files.open(path)
    assert ["directory", "fifo", "socket"] == [entry.kind for entry in files.entries()]


def test_names_that_are_not_text_are_listed_and_removed(files, tmp_path):
    (tmp_path / "root" / os.fsdecode(b"\xff\n")).write_text("x")

    assert [os.fsdecode(b"\xff\n")] == paths(files)
    files.remove("", recursive=True)
    assert [] == paths(files)


def test_a_file_that_exists_is_kept_unless_forced(files):
    write(files, "a", "first")
    with pytest.raises(FileExistsError):
        files.begin("a")
    write(files, "a", "second", force=True)

    assert "second" == read(files, "a")


def test_of_two_who_write_the_same_new_file_one_is_told(files, tmp_path):
    first, second = files.begin("a"), files.begin("a")
    first.write(b"first")
    first.finish()
    with pytest.raises(FileExistsError):
        second.finish()
    for writing in (first, second):
        writing.abort()

    assert "first" == read(files, "a")
    assert [] == os.listdir(tmp_path / "staging")


def test_a_write_that_is_cut_off_leaves_nothing(files, tmp_path):
    writing = files.begin("a/b")
    writing.write(b"half")
    writing.abort()

    assert [] == os.listdir(tmp_path / "staging")
    assert [] == paths(files)


def test_a_full_disk_leaves_no_half_file(files, tmp_path):
    def full(*_args):
        raise OSError(28, "No space left on device")

    writing = files.begin("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            writing.write(b"x")
    writing.abort()

    assert [] == paths(files)
    assert [] == os.listdir(tmp_path / "staging")


def test_a_tree_that_is_too_deep_is_told_of_and_can_be_removed(files, tmp_path):
    (tmp_path / "root/deep").mkdir()
    descriptor = os.open(tmp_path / "root/deep", os.O_RDONLY)
    for _ in range(1500):  # longer than PATH_MAX, deeper than Python's stack
        os.mkdir("d" * 10, dir_fd=descriptor)
        inner = os.open("d" * 10, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)

    with pytest.raises(OSError, match=f"more than {MAX_DEPTH}"):
        paths(files, recursive=True)
    files.measure()
    files.remove("deep", recursive=True)
    assert [] == paths(files)
    assert [] == os.listdir(tmp_path / "staging")


def test_copies_are_made_as_cp_makes_them(files, tmp_path):
    write(files, "a/x", "x")
    (tmp_path / "root/a/link").symlink_to("x")
    files.copy(["a/x"], "y")
    with pytest.raises(IsADirectoryError):
        files.copy(["a"], "b")
    files.copy(["a"], "b", recursive=True)
    files.copy(["a", "y"], "b", recursive=True)
    with pytest.raises(NotADirectoryError):
        files.copy(["a/x", "y"], "y")
    with pytest.raises(ValueError, match="into itself"):
        files.copy(["a"], "a/c", recursive=True)

    found = paths(files, "b", recursive=True)
    assert ["b/a", "b/a/link", "b/a/x", "b/link", "b/x", "b/y"] == found
    assert "x" == os.readlink(tmp_path / "root/b/link")


def test_a_directory_is_removed_only_when_that_is_meant(files):
    write(files, "a/x")
    with pytest.raises(IsADirectoryError):
        files.remove("a")
    with pytest.raises(IsADirectoryError):
        files.remove("/")
    with pytest.raises(FileNotFoundError):
        files.remove("b")
    files.remove("a/x")

    assert ["a"] == paths(files)


def test_the_size_of_a_tree_is_what_it_takes_on_the_disk(files, tmp_path):
    write(files, "a", "x" * 100_000)
    with open(tmp_path / "root/sparse", "wb") as sparse:
        sparse.truncate(1 << 40)

    size, count = files.measure()
    assert 2 == count
    assert 100_000 <= size < 1 << 20
