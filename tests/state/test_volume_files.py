"""The files of volumes in a backup."""

import errno
import os
import shutil
import tarfile

import pytest

from homeport.contract.errors import Failure, NotFound, StorageError
from homeport.settings import Settings
from homeport.state import backup, urls, volume_files
from homeport.state.database import Database
from homeport.state.volumes import Volumes
from tests.state.test_backup import fill


async def test_volumes_that_were_asked_for_come_back_with_their_links_and_modes(tmp_path):
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    database = Database(urls.of("", settings.home))
    volumes = Volumes(database, settings.volumes_dir)
    row, other_row = await volumes.create("models"), await volumes.create("cache")
    files = volumes.directory(row) / "files"
    (files / "deep/er").mkdir(parents=True)
    (files / "deep/er/x").write_bytes(b"weights" * 100_000)
    (files / "deep/er/x").chmod(0o750)
    os.utime(files / "deep/er/x", (1_000_000, 1_000_000))
    (files / "deep").chmod(0o555)
    (files / "out").symlink_to("/etc/passwd")
    (files / "line\nbreak").write_text("")
    os.mkfifo(files / "fifo")
    (volumes.directory(other_row) / "files/x").write_text("not asked for")
    await database.close()
    summary = backup.make(settings, tmp_path / "file", force=False, volumes=["models"])
    with pytest.raises(NotFound, match="no volume `none`"):
        backup.make(settings, tmp_path / "none", force=False, volumes=["none"])
    other = Settings(home=tmp_path / "other")
    restored = backup.restore(other, tmp_path / "file", force=False)
    back = other.volumes_dir / "main/main" / row.id / "files"
    status = (back / "deep/er/x").stat()

    assert (("cache", "models"), ("models",)) == (summary.volumes, summary.with_files)
    assert summary == restored
    assert b"weights" * 100_000 == (back / "deep/er/x").read_bytes()
    assert (0o750, 1_000_000) == (status.st_mode & 0o777, status.st_mtime)
    assert (files.stat().st_uid, 0o555) == (
        back.stat().st_uid,
        (back / "deep").stat().st_mode & 0o777,
    )
    assert "/etc/passwd" == os.readlink(back / "out")
    assert {"deep", "out", "line\nbreak"} == {path.name for path in back.iterdir()}
    assert not (other.volumes_dir / "main/main" / other_row.id).exists()

    (back / "later").write_text("stays beside it")
    backup.restore(other, tmp_path / "file", force=True)

    assert not (back / "later").exists()
    [aside] = back.parents[1].glob(f"{row.id}.before-restore-*/files/later")
    assert "stays beside it" == aside.read_text()


async def test_a_restore_that_fails_puts_volumes_back(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    database = Database(urls.of("", settings.home))
    volumes = Volumes(database, settings.volumes_dir)
    row = await volumes.create("models")
    files = volumes.directory(row) / "files"
    (files / "x").write_text("before")
    await database.close()
    backup.make(settings, tmp_path / "file", force=False, volumes=None)
    (files / "x").write_text("after")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "it")

    monkeypatch.setattr(backup, "_copy", full)
    with pytest.raises(Failure, match="No space left"):
        backup.restore(settings, tmp_path / "file", force=True)

    assert "after" == (files / "x").read_text()
    assert [row.id] == [path.name for path in files.parents[1].iterdir()]


@pytest.mark.parametrize("kind", ["a link outside", "a device"])
def test_a_volume_of_a_backup_from_anywhere_cannot_write_elsewhere(kind, tmp_path):
    restored = volume_files.Restored(tmp_path / "volumes")
    name = f"volumes/main/main/vo-{'0' * 22}/files"
    (tmp_path / "outside").mkdir()

    def add(path, type_, text=b"", link=""):
        member = tarfile.TarInfo(f"{name}/{path}")
        member.type, member.size, member.linkname = type_, len(text), link
        restored.add(member, iter([text]))

    if kind == "a device":
        with pytest.raises(ValueError, match="not a file"):
            add("null", tarfile.CHRTYPE)
        return
    add("link", tarfile.SYMTYPE, link=str(tmp_path / "outside"))
    with pytest.raises(OSError):
        add("link/x", tarfile.REGTYPE, b"x")

    assert not list((tmp_path / "outside").iterdir())


KEY = f"main/main/vo-{'0' * 22}"


@pytest.fixture
def files(tmp_path):
    """The directory with the files of a volume."""
    path = tmp_path / KEY / "files"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("was", ["file", "directory", "link"])
@pytest.mark.parametrize("is_now", ["nothing", "directory", "link", "fifo", "in a file"])
def test_a_file_that_a_container_replaces_meanwhile_stops_no_backup(
    tmp_path, files, monkeypatch, was, is_now
):
    (files / "z").write_text("the last one")
    entries = volume_files.Tree.entries

    def replaced(tree, *args, **kwargs):
        for entry in entries(tree, *args, **kwargs):
            if entry.path == "a/x":
                shutil.rmtree(files / "a")
                make(files / "a/x", is_now)
            yield entry

    make(files / "a/x", was)
    monkeypatch.setattr(volume_files.Tree, "entries", replaced)
    written = {}
    volume_files.add(
        tmp_path, [KEY], lambda member, file: written.update({member.name: file and file.read()})
    )

    assert b"the last one" == written[f"volumes/{KEY}/files/z"]


def make(path, kind):
    if kind == "in a file":
        path.parent.write_text("")
        return
    path.parent.mkdir()
    if kind == "file":
        path.write_text("")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path)


def test_a_file_with_an_endless_path_is_named_with_its_volume(tmp_path, files, monkeypatch):
    monkeypatch.chdir(files)
    for _ in range(20):  # as a container can: the kernel takes no more of a path than 4 KiB
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    with pytest.raises(StorageError, match=f"the volume vo-{'0' * 22} has a file") as caught:
        volume_files.add(tmp_path, [KEY], lambda _member, _file: None)

    assert "leave the volume out" in caught.value.hint
