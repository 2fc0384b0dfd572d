"""How much a container has written, also in deep directories and odd files."""

import os

from homeport import removing
from homeport.cell import storage

DEEP = 3000  # beyond what Python recurses, and far beyond the length of a path


def nest(top, levels: int) -> None:
    """Make directories in each other, with a file in the last."""
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(file, b"x" * 100_000)
    os.close(file)
    os.close(folder)


def test_files_are_counted_and_the_targets_of_links_are_not(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1_000_000)
    written = tmp_path / "written"
    written.mkdir()
    (written / "link").symlink_to(outside)
    nest(written, 30)

    assert 100_000 <= storage.measured(str(written)) < 200_000


def test_a_tree_that_is_too_deep_is_over_every_limit_and_leaves_no_descriptor(tmp_path):
    nest(tmp_path, DEEP)
    before = os.listdir("/proc/self/fd")

    assert storage.TOO_DEEP == storage.measured(str(tmp_path))

    assert before == os.listdir("/proc/self/fd")
    removing.discard(str(tmp_path / "d"))  # pytest's own removal recurses


def test_a_missing_tree_has_no_size_and_is_no_error_to_discard(tmp_path):
    assert 0 == storage.measured(str(tmp_path / "missing"))
