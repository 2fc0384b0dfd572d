"""Cells of every kind, run as root and as an ordinary user that exists only for the tests."""

import dataclasses
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.cell import host
from homeport.cell.description import Cell, Ids, range_of_ids
from homeport.contract import codec
from tests import isolation, trees

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
FIRST_ID = 231072
ORDINARY = 23456  # a user that no system has; its files go with the test's directory
PATIENCE_S = 60


@dataclasses.dataclass
class Account:
    """The user that makes the cells, with an interpreter and a directory that this user may use."""

    name: str
    user: int
    python: str
    directory: Path
    ids: Ids | None = None
    words: tuple[str, ...] = ()  # what a command line begins with, to run as this user

    def run(self, module_or_script: list[str], **given) -> "subprocess.CompletedProcess[str]":
        """Run a Python program of the tests as this user."""
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "HOME": "/nonexistent"}
        return subprocess.run(
            [*self.words, self.python, *module_or_script],
            env={**environ, **given.pop("environ", {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            **given,
        )

    def mkdir(self, name: str) -> Path:
        """Make a directory that this user owns."""
        path = self.directory / name
        path.mkdir()
        os.chown(path, self.user, self.user)
        return path

    def cell(self, **changes) -> Cell:
        """Describe a host cell of this user that shows the tests' files."""
        paths = [str(SOURCE / "homeport"), str(HERE), *host.interpreter(self.python)]
        cell = host.cell(paths, binds=changes.pop("binds", ()))
        changes.setdefault("storage", str(self.mkdir(f"up-{secrets.token_hex(4)}")))
        return dataclasses.replace(cell, ids=self.ids, **changes)

    def inside(self, cell: Cell, argv: list[str], *, mounts=None, private=True, **given):
        """Run a program in a cell, and return the finished process."""
        order = {"cell": codec.encode(cell), "argv": argv, "private": private}
        order["mounts"] = mounts or {}
        return self.run(["-m", "homeport.cell", json.dumps(order)], **given)


@pytest.fixture(params=["root", "ordinary", "ranges"])
def account(request, tmp_path_factory):
    """Root, an ordinary user, and an ordinary user with a range of ids in /etc/subuid, if the tests' own user may become these."""
    isolation.needed()
    if request.param == "ordinary" and os.getuid() != 0:
        yield Account("ordinary", os.getuid(), sys.executable, tmp_path_factory.mktemp("cell"))
        return
    if os.getuid() != 0:
        pytest.skip("only root may become somebody else")
    # pytest's own directories are the running user's alone
    directory = Path(f"/var/tmp/homeport-cells-{secrets.token_hex(4)}")
    directory.mkdir()
    try:
        if request.param == "root":
            yield Account("root", 0, sys.executable, directory, range_of_ids(FIRST_ID))
        else:
            os.chown(directory, ORDINARY, ORDINARY)
            yield _made_up(request.param, directory)
    finally:
        shutil.rmtree(directory)


def _made_up(name: str, directory: Path) -> Account:
    words = _become(ORDINARY)
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    python = next((p for p in (sys.executable, "/usr/bin/python3") if _usable(p)), None)
    if python is None:
        pytest.skip("an ordinary user has no Python here")
    if name == "ordinary":
        return Account(name, ORDINARY, python, directory, None, tuple(words))
    if shutil.which("newuidmap") is None or shutil.which("unshare") is None:
        pytest.skip("there is no newuidmap, or no unshare")
    # A user database and ranges that only this process and its children see.
    commands = ["set -e"]
    for file, content in (
        ("passwd", f"root:x:0:0::/root:/bin/sh\nsailor:x:{ORDINARY}:{ORDINARY}::/:/bin/sh\n"),
        ("subuid", f"sailor:{FIRST_ID}:65536\n"),
        ("subgid", f"sailor:{FIRST_ID}:65536\n"),
    ):
        (directory / file).write_text(content)
        if not Path(f"/etc/{file}").exists():
            pytest.skip(f"there is no /etc/{file}")
        commands.append(f"mount --bind {directory}/{file} /etc/{file}")
    commands.append(f'exec {" ".join(words)} "$@"')
    words = ["unshare", "--mount", "sh", "-c", "\n".join(commands), "sh"]
    lent = (1, FIRST_ID, 65535)
    ids = Ids(users=((0, ORDINARY, 1), lent), groups=((0, ORDINARY, 1), lent))
    return Account(name, ORDINARY, python, directory, ids, tuple(words))


def _become(user: int) -> list[str]:
    # By `env`, because setpriv itself still has root's rights when it looks for the program.
    return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--", "env"]


@functools.cache
def _usable(python: str) -> bool:
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import homeport.cell.kernel"
    words = [*_become(ORDINARY), python, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # 1: our code is hidden from the user, or too new for this Python; 126 and 127: the program is.
    assert done.returncode in (0, 1, 126, 127), (done.returncode, done.stderr)
    return done.returncode == 0


@pytest.fixture
def layers(account) -> tuple[str, str]:
    """A small root file system in two layers: the upper one changes and removes files of the lower."""
    lower, upper = account.mkdir("layer-0"), account.mkdir("layer-1")
    for path, content in (
        ("etc/os-release", "NAME=below\n"),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
    ):
        (lower / path).parent.mkdir(exist_ok=True)
        (lower / path).write_text(content)
    for name, to in host.cell([]).links:
        (lower / name[1:]).symlink_to(to)
    (upper / "etc").mkdir()
    (upper / "etc/os-release").write_text("NAME=above\n")
    owner = account.ids.users[0][1] if account.ids else account.user
    for path in (lower, upper, *trees.paths(lower), *trees.paths(upper)):
        os.chown(path, owner, owner, follow_symlinks=False)
    return str(lower), str(upper)
