"""What a container has written, however deep and strange it is."""

import os
import subprocess
import sys

import pytest

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


def test_a_tree_of_any_depth_goes(tmp_path):
    written = tmp_path / "written"
    (written / "beside" / "inner").mkdir(parents=True)
    (written / "beside" / "file").write_text("x")
    nest(written, DEEP)

    storage.remove(str(written))

    assert [] == list(tmp_path.iterdir())


def test_what_is_there_is_counted_and_what_a_link_leads_to_is_not(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1_000_000)
    written = tmp_path / "written"
    written.mkdir()
    (written / "link").symlink_to(outside)
    nest(written, 30)

    assert 100_000 <= storage.measured(str(written)) < 200_000

    storage.remove(str(written))

    assert not written.exists()
    assert (outside / "large").exists()


def test_a_tree_that_is_too_deep_is_over_every_limit_and_leaves_no_descriptor(tmp_path):
    nest(tmp_path, DEEP)
    before = os.listdir("/proc/self/fd")

    assert storage.TOO_DEEP == storage.measured(str(tmp_path))

    assert before == os.listdir("/proc/self/fd")
    storage.remove(str(tmp_path / "d"))  # pytest's own removal recurses


def test_nothing_is_nothing(tmp_path):
    storage.remove(str(tmp_path / "missing"))

    assert 0 == storage.measured(str(tmp_path / "missing"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes an ordinary user")
def test_an_owner_who_took_away_his_own_rights_keeps_nothing(tmp_path):
    written = tmp_path / "written"
    (written / "closed" / "inner").mkdir(parents=True)
    (written / "closed" / "inner" / "file").write_text("x")
    for path in (written / "closed" / "inner", written / "closed", written, tmp_path):
        os.chown(path, 23456, 23456)
    (written / "closed" / "inner").chmod(0)
    (written / "closed").chmod(0o500)
    folder = os.open(tmp_path, os.O_RDONLY)
    # By a descriptor, as the directories above belong to root alone.
    code = "import os, stat; from homeport.cell import storage\n"  # which only root may read here
    code += f"os.fchdir({folder}); os.setgid(23456); os.setuid(23456); storage.remove('written')"
    subprocess.run([sys.executable, "-c", code], pass_fds=[folder], check=True)
    os.close(folder)

    assert [] == list(tmp_path.iterdir())
