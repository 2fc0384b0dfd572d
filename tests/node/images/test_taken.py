"""What a step has changed in an environment: taken as data, because it may be hostile."""

import os
import stat

import pytest

from homeport.contract.errors import ImageError
from homeport.node.images.taken import take


@pytest.fixture
def venv(tmp_path):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/usr/bin/python3")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (venv / "lib" / "a").mkdir(parents=True)
    (venv / "lib" / "a" / "old.py").write_text("old")
    return venv


@pytest.fixture
def changes(tmp_path):
    changes = tmp_path / "changes"
    (changes / "lib" / "a").mkdir(parents=True)
    (changes / "bin").mkdir()
    return changes


def test_files_are_taken_without_rights_that_only_a_cell_may_give(venv, changes):
    (changes / "lib" / "b").mkdir(mode=0o777)
    file = changes / "lib" / "b" / "tool"
    file.write_text("x")
    file.chmod(0o6777)
    (changes / "lib" / "a" / "old.py").write_text("new")
    take(changes, venv)

    taken = (venv / "lib" / "b" / "tool").stat()
    assert (0o755, os.getuid()) == (stat.S_IMODE(taken.st_mode), taken.st_uid)
    assert 0o755 == stat.S_IMODE((venv / "lib" / "b").stat().st_mode)
    assert "new" == (venv / "lib" / "a" / "old.py").read_text()
    assert "/usr/bin/python3" == os.readlink(venv / "bin" / "python")


def test_a_file_that_is_replaced_stays_in_the_layer_below(venv, changes, tmp_path):
    os.link(venv / "lib" / "a" / "old.py", tmp_path / "below.py")
    (changes / "lib" / "a" / "old.py").write_text("new")
    take(changes, venv)

    assert "old" == (tmp_path / "below.py").read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="overlayfs makes these marks; by hand only root may")
def test_files_that_the_step_deleted_are_deleted(venv, changes):
    os.mknod(changes / "lib" / "a" / "old.py", stat.S_IFCHR, 0)
    (venv / "lib" / "gone").mkdir()
    (venv / "lib" / "gone" / "file").touch()
    os.mknod(changes / "lib" / "gone", stat.S_IFCHR, 0)
    os.mknod(changes / "lib" / "never", stat.S_IFCHR, 0)
    take(changes, venv)

    assert ["a"] == os.listdir(venv / "lib")
    assert [] == os.listdir(venv / "lib" / "a")


def test_a_directory_that_is_made_anew_has_nothing_of_the_old_one(venv, changes):
    os.setxattr(changes / "lib" / "a", "user.overlay.opaque", b"y")
    (changes / "lib" / "a" / "new.py").touch()
    take(changes, venv)

    assert ["new.py"] == os.listdir(venv / "lib" / "a")


def test_of_a_whole_copy_the_changes_are_taken(venv, tmp_path):
    import shutil

    kept = venv / "lib" / "a" / "kept.py"
    kept.write_text("kept")
    before = kept.stat().st_ino
    copy = tmp_path / "copy"
    shutil.copytree(venv, copy, symlinks=True)
    (copy / "lib" / "a" / "old.py").unlink()
    (copy / "lib" / "a" / "new.py").write_text("new")
    take(copy, venv, whole=True)

    assert {"kept.py", "new.py"} == {*os.listdir(venv / "lib" / "a")}
    assert before == kept.stat().st_ino


@pytest.mark.parametrize(
    ("place", "target"),
    [("lib/a/link", "/etc/shadow"), ("lib/a/__pycache__", "/etc"), ("lib/b", "a"), ("bin", "/etc")],
)
def test_a_link_is_refused(venv, changes, place, target):
    path = changes / place
    if path.is_dir():
        path.rmdir()
    path.symlink_to(target)
    with pytest.raises(ImageError, match="a symbolic link among the packages"):
        take(changes, venv)

    assert (venv / "bin").is_dir()


def test_a_pipe_is_refused(venv, changes):
    os.mkfifo(changes / "lib" / "a" / "pipe")
    with pytest.raises(ImageError, match="a special file among the packages"):
        take(changes, venv)


@pytest.mark.parametrize("name", ["bin/python", "pyvenv.cfg", "bin"])
def test_the_interpreter_of_the_packages_is_not_replaced(venv, changes, name):
    path = changes / name
    if path.is_dir():
        path.rmdir()
    path.write_text("mine")
    with pytest.raises(ImageError, match=f"own file `{name}`"):
        take(changes, venv)

    assert "/usr/bin/python3" == os.readlink(venv / "bin" / "python")


def test_a_link_below_which_a_step_would_write_is_not_followed(venv, changes, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (venv / "lib" / "led").symlink_to(elsewhere)
    (changes / "lib" / "led").mkdir()
    (changes / "lib" / "led" / "file").touch()
    take(changes, venv)

    assert [] == os.listdir(elsewhere)
    assert (venv / "lib" / "led" / "file").exists()


def test_directories_that_are_too_deep_are_refused(venv, changes):
    deep = changes
    for _ in range(70):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(ImageError, match="too deep"):
        take(changes, venv)
