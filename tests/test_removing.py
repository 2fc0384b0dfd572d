"""A directory that somebody else filled goes, however deep and strange it is."""

import os
import subprocess
import sys

import pytest

from homeport import removing
from tests import trees
from tests.cell.test_storage import DEEP, nest


@pytest.mark.parametrize("way", [removing.discard, removing.remove])
def test_a_tree_of_any_depth_goes(tmp_path, way):
    written = tmp_path / "written"
    (written / "beside" / "inner").mkdir(parents=True)
    (written / "beside" / "file").write_text("x")
    nest(written, DEEP)

    way(str(written))

    assert [] == list(tmp_path.iterdir())


def test_the_target_of_a_link_stays(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1_000_000)
    written = tmp_path / "written"
    written.mkdir()
    (written / "link").symlink_to(outside)
    nest(written, 30)

    removing.discard(str(written))

    assert not written.exists()
    assert (outside / "large").exists()


def test_a_missing_tree_has_no_size_and_is_no_error_to_discard(tmp_path):
    removing.discard(str(tmp_path / "missing"))

    with pytest.raises(FileNotFoundError):
        removing.remove(str(tmp_path / "missing"))


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
    code = "import os, stat; from homeport import removing\n"  # which only root may read here
    code += f"os.fchdir({folder}); os.setgid(23456); os.setuid(23456); removing.discard('written')"
    subprocess.run([sys.executable, "-c", code], pass_fds=[folder], check=True)
    os.close(folder)

    assert [] == list(tmp_path.iterdir())


def test_a_link_that_takes_the_place_of_a_closed_directory_opens_nothing_to_its_owner(
    tmp_path, monkeypatch
):
    outside, written = tmp_path / "outside", tmp_path / "written"
    outside.mkdir(mode=0o500)
    (written / "closed").mkdir(parents=True)
    opened = os.open

    def closed(name, flags, *args, **more):
        if name == "closed" and not (written / "closed").is_symlink():
            (written / "closed").rmdir()  # as a container does that is fast enough
            (written / "closed").symlink_to(outside)
            raise PermissionError(13, "Permission denied", name)
        return opened(name, flags, *args, **more)

    monkeypatch.setattr(os, "open", closed)
    removing.remove(str(written))

    assert 0o500 == outside.stat().st_mode & 0o777
    assert not written.exists()


def test_a_directory_goes_into_which_somebody_still_writes(tmp_path, monkeypatch):
    written = tmp_path / "written"
    written.mkdir()
    (written / "inner").mkdir()
    late = iter([written / "late", written / "later"])
    rmdir = os.rmdir

    def busy(name, **more):
        if (file := next(late, None)) is not None:
            file.write_text("x")
        rmdir(name, **more)

    monkeypatch.setattr(os, "rmdir", busy)
    removing.remove("written", folder := os.open(tmp_path, os.O_RDONLY))
    os.close(folder)

    assert [] == list(tmp_path.iterdir())


def test_a_writer_who_never_stops_is_an_error_after_many_tries(tmp_path, monkeypatch):
    written = tmp_path / "written"
    written.mkdir()
    rmdir, count = os.rmdir, 0

    def busy(name, **more):
        nonlocal count
        count += 1
        (written / f"{count}").write_text("x")
        rmdir(name, **more)

    monkeypatch.setattr(os, "rmdir", busy)
    with pytest.raises(OSError, match="not empty"):
        removing.remove(str(written))

    assert removing.TRIES < count


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_a_file_that_cannot_be_deleted_stays_with_a_line_in_the_log_and_the_others_go(
    tmp_path, caplog
):
    written = tmp_path / "written"
    (written / "held" / "mount").mkdir(parents=True)
    (written / "beside" / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", written / "held/mount"], check=True)
    try:
        removing.discard(str(written))
        with pytest.raises(OSError, match="busy"):
            removing.remove(str(written))
        left = [path.name for path in trees.paths(written)]
    finally:
        mounted = next(path for path in trees.paths(written) if path.is_mount())
        subprocess.run(["umount", mounted], check=True)

    assert f"`{written}` cannot be deleted, and stays" in caplog.text
    assert "beside" not in left


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path, caplog):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (tmp_path / "link").symlink_to(kept)

    removing.discard(str(tmp_path / "link"))

    assert (kept / "file").exists()
    assert "cannot be deleted" in caplog.text
