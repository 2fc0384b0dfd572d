"""Layers, made and removed by root, by an ordinary user, and by one with a range of ids."""

import json
import os

import pytest

from homeport.cell import identity
from homeport.cell.description import Cell, range_of_ids
from homeport.contract import codec
from homeport.node.images.owned import within
from tests import registries
from tests.cell.conftest import account

__all__ = ["account"]  # the fixture: three kinds of users


@pytest.fixture
def do(account):
    """Let the account's user carry out an order."""

    def do(**order):
        path = account.directory / "order.json"
        path.write_text(json.dumps(order))
        os.chown(path, account.user, account.user)
        return account.run(["-m", within.__name__, str(path)])

    return do


def test_a_layer_is_unpacked_worked_on_measured_and_removed(account, do):
    files, storage = account.mkdir("files"), account.mkdir("storage")
    ids = account.ids
    if account.user == 0:
        ids = range_of_ids(identity.FIRST_ID)
        os.chown(files, identity.FIRST_ID, identity.FIRST_ID)
    archive = account.directory / "layer"
    archive.write_bytes(registries.system(None))
    cell = Cell(layers=(str(files),), storage=str(storage), ids=ids)
    script = "echo hello > /new; rm /etc/group; cat /proc/self/uid_map"

    unpacked = do(do="unpack", archive=str(archive), into=str(files))
    ran = do(
        do="run",
        cell=codec.encode(cell),
        commands=[["$ first", ["/bin/sh", "-c", script]], ["", ["/bin/sh", "-c", "exit 3"]]],
        cwd="/root",
        environ={"PATH": "/usr/bin:/bin"},
    )
    written = storage / within.STORAGE / "root" / "files"
    mine = (written / "new").stat().st_uid
    hidden = (written / "etc/group").lstat().st_rdev
    measured = do(do="measure", directory=str(files))
    emptied = [do(do="empty", directory=str(path)).returncode for path in (files, storage)]

    assert 0 == unpacked.returncode, unpacked.stderr
    assert json.loads(unpacked.stdout)["entries"] > 10
    assert 3 == ran.returncode, ran.stderr
    assert ran.stdout.startswith("$ first\n")
    assert (identity.FIRST_ID if account.user == 0 else account.user) == mine
    assert 0 == hidden
    assert json.loads(measured.stdout)["bytes"] > 1_000_000
    assert [0, 0] == emptied
    assert [] == [*files.iterdir(), *storage.iterdir()]
    assert not (account.directory / "order.json").exists()


def test_a_tree_of_which_a_part_cannot_be_read_is_not_copied_without_it(account, do):
    source, files = account.mkdir("source"), account.mkdir("files")
    (source / "module.py").write_text("")
    account.directory.chmod(0o755)
    source.chmod(0o755)
    closed = source / "package"
    closed.mkdir(mode=0o700)  # root's, and the cells' ids are not root's
    os.chown(files, identity.FIRST_ID if account.user == 0 else account.user, -1)

    copied = do(do="tree", source=str(source), place="usr/local", into=str(files))
    closed.chmod(0o755)
    again = do(do="tree", source=str(source), place="usr/again", into=str(files))

    if os.geteuid() == 0:
        assert within.FAILED == copied.returncode
        assert "Permission denied" in copied.stderr
    assert 0 == again.returncode, again.stderr
    assert (files / "usr/again/package").is_dir()
