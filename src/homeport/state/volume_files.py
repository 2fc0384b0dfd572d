"""The files of volumes in a backup: `volumes/<workspace>/<environment>/<id>/files/<path>`.

Users and groups are those inside containers: on another machine the same user may have another id outside. An
ordinary user's restore gives every file to root inside. A volume is copied while containers may write to it:
each file is as it was when it was read. FIFOs, sockets and devices are left out.

A container may have put anything into a volume, and a backup may come from anywhere, so every path is opened
by `tree`, which never leaves the volume.
"""

import contextlib
import errno
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from homeport.cell import identity
from homeport.cell.description import Ids
from homeport.contract.errors import StorageError
from homeport.tree import Tree

FILES, STAGING = "files", "staging"
#: A container has deleted a path since it was listed, or has put something else there: it is left out.
REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)
_LABEL = r"[A-Za-z0-9._-]{1,64}"
_MEMBER = re.compile(rf"volumes/({_LABEL}/{_LABEL}/vo-[0-9a-f]{{22}})/files(?:/(.*))?", re.DOTALL)

Add = Callable[[tarfile.TarInfo, "IO[bytes] | None"], None]


def add(root: Path, keys: Sequence[str], into: Add) -> int:
    """Add the files of volumes to a backup; return how many. A key is `<workspace>/<environment>/<id>`."""
    ids, count = identity.own(), 0
    for key in keys:
        folder = root / key / FILES
        if not folder.is_dir():
            continue
        into(_member(key, "", os.lstat(folder), ids), None)
        try:
            count += _add_one(Tree(str(folder)), key, into, ids)
        except PermissionError as error:
            raise StorageError(
                f"the volume {key.rpartition('/')[2]} has a file that the server's user cannot read: "
                f"{error.filename or error.strerror}",
                hint="let it be readable for root inside the container, or leave the volume out",
            ) from None
        except ValueError as error:
            raise StorageError(
                f"the volume {key.rpartition('/')[2]} has a file that a backup cannot hold: {error}",
                hint="delete it, or leave the volume out",
            ) from None
    return count


def _add_one(tree: Tree, key: str, into: Add, ids: Ids | None) -> int:
    count = 0
    for entry in tree.entries(recursive=True):
        try:
            member, file = _read(tree, key, entry.path, ids)
        except OSError as error:
            if error.errno in REPLACED:
                continue
            raise
        with file or contextlib.nullcontext():
            into(member, file)
        count += 1
    return count


def _read(
    tree: Tree, key: str, path: str, ids: Ids | None
) -> tuple[tarfile.TarInfo, "IO[bytes] | None"]:
    """Return what a backup has of a path, and a regular file opened; `OSError` with EINVAL for a FIFO or a socket."""
    status = tree.status(path)
    member = _member(key, path, status, ids)
    if stat.S_ISDIR(status.st_mode):
        return member, None
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, tree.link(path)
        return member, None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", path)  # as `Tree.open` says it
    file = os.fdopen(tree.open(path, follows=False), "rb")
    member.size = os.fstat(file.fileno()).st_size
    return member, file


def _member(key: str, path: str, status: os.stat_result, ids: Ids | None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"volumes/{key}/{FILES}" + (f"/{path}" if path else ""))
    info.mode, info.mtime = status.st_mode & 0o777, int(status.st_mtime)
    info.uid = _inside(ids.users if ids else (), status.st_uid)
    info.gid = _inside(ids.groups if ids else (), status.st_gid)
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    return info


def _inside(rows: Sequence[tuple[int, int, int]], outside: int) -> int:
    """Return the id that a container sees; 0 for an id that it does not have."""
    for inside, first, count in rows:
        if first <= outside < first + count:
            return inside + outside - first
    return 0


def _outside(rows: Sequence[tuple[int, int, int]], inside: int) -> int:
    """Return the id of the machine for one in containers; root's for an id that they do not have."""
    for start, first, count in rows:
        if start <= inside < start + count:
            return first + inside - start
    return _outside(rows, 0) if inside else -1


class Restored:
    """Unpacks volumes into a folder, as `<workspace>/<environment>/<id>`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = identity.own() if os.geteuid() == 0 else None  # an ordinary user cannot chown
        self._trees: dict[str, Tree] = {}
        self._directories: list[tuple[Tree, str, tarfile.TarInfo]] = []

    @property
    def keys(self) -> list[str]:
        """The volumes whose files were in the backup."""
        return list(self._trees)

    def is_member(self, name: str) -> bool:
        """Return whether a member is one of a volume."""
        return name.startswith("volumes/")

    def add(self, member: tarfile.TarInfo, chunks: Iterator[bytes]) -> None:
        """Unpack a member; `ValueError` for what does not belong there."""
        match = _MEMBER.fullmatch(member.name)
        if match is None or ".." in match[1].split("/") or "." in match[1].split("/"):
            raise ValueError(f"{member.name[:100]!r} does not belong there")
        tree, path = self._tree(match[1]), match[2] or ""
        if member.isdir():
            tree.make(path)
            self._directories.append((tree, path, member))
        elif member.issym() and path:
            tree.symlink(path, member.linkname)
        elif member.isreg() and path:
            writing = tree.begin(path, mode=member.mode)
            try:
                for chunk in chunks:
                    writing.write(chunk)
                writing.settle(self._owner(member), member.mtime)
                writing.finish()
            finally:
                writing.abort()
        else:
            raise ValueError(f"{member.name[:100]!r} is not a file, a directory or a link")

    def finish(self) -> None:
        """Give the directories their modes, at last: one may forbid to write; write all through to the disk."""
        for tree, path, member in reversed(self._directories):
            tree.settle(path, member.mode & 0o777, self._owner(member), member.mtime)
        for tree in self._trees.values():
            tree.sync()

    def _tree(self, key: str) -> Tree:
        if key not in self._trees:
            directory = self._folder / key
            directory.mkdir(parents=True, mode=0o700)
            (directory / FILES).mkdir(mode=0o755)
            (directory / STAGING).mkdir(mode=0o700)
            self._trees[key] = Tree(str(directory / FILES), staging=str(directory / STAGING))
        return self._trees[key]

    def _owner(self, member: tarfile.TarInfo) -> tuple[int, int] | None:
        if self._ids is None:
            return None
        return _outside(self._ids.users, member.uid), _outside(self._ids.groups, member.gid)
