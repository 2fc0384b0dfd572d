"""Lays files into an image for a step, and takes files out of another image; both in a cell, as its root.

In a cell, a path means what it means for the image's programs: a link such as /bin leads to the same place, and
a directory that the layers below have keeps its permissions.
"""

# ruff: noqa: PTH103, PTH112, PTH113, PTH115, PTH116, PTH119, PTH123, PTH207, PTH208

import glob
import os
import stat
import tarfile
from collections.abc import Iterable, Sequence
from typing import IO

from homeport.node.images.owned import unpack
from homeport.node.images.owned.archives import UnfitError

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def lay(archives: Iterable[tuple[IO[bytes], str]], ids: int, owner: str) -> dict[str, int]:
    """Unpack each archive below its directory, which is made if it does not exist."""
    total = 0
    owner_ids = _ids_of(owner) if owner else None
    for archive, target in archives:
        os.makedirs(target, exist_ok=True)
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            total += unpack.unpack(archive, root, ids=ids, lays=True, owner=owner_ids).bytes
        finally:
            os.close(root)
    return {"bytes": total}


def pack(
    out: IO[bytes], sources: Sequence[str], target: str, *, is_directory: bool, mode: int | None
) -> dict[str, int]:
    """Write an archive of files of this cell, with the names that a COPY to `target` gives them.

    Raises `UnfitError` if a source does not exist. Devices and mounts (/proc, /dev) are left out.
    """
    matched: list[str] = []
    for source in sources:
        matches = sorted(glob.glob("/" + source.lstrip("/"), include_hidden=True))
        if not matches:
            raise UnfitError(f"there is no `{source}` to copy from")
        matched += matches
    into = len(matched) > 1 or target.endswith("/") or is_directory
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        packing = _Packing(tar, mode)
        for path in matched:
            real = os.path.realpath(path)
            place = target.strip("/")
            if os.path.isdir(real):
                if is_directory or not place:
                    for item in sorted(os.listdir(real)):
                        packing.add(f"{real}/{item}", f"{place}/{item}".lstrip("/"))
                else:
                    packing.add(real, place)
            else:
                name = f"{place}/{os.path.basename(path)}".lstrip("/") if into else place
                packing.add(real, name)
    out.flush()  # this process ends without closing its files
    return {"bytes": out.tell()}


class _Packing:
    """Adds files of this cell to an archive, without their owners.

    It does not use `TarFile.add`, which asks for the names of owners: glibc would load the library for that which the
    image's nsswitch.conf names, into this process.
    """

    def __init__(self, tar: tarfile.TarFile, mode: int | None) -> None:
        self._tar = tar
        self._mode = mode  # None: each file's own
        self._top = os.stat("/").st_dev
        self._names: dict[tuple[int, int], str] = {}  # of files that have several

    def add(self, path: str, name: str) -> None:
        """Add a file, or a directory with everything in it."""
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            self._put(path, name, status)
        elif status.st_dev == self._top:
            self._put(path, name, status)
            for entry in sorted(os.listdir(path)):
                self.add(f"{path}/{entry}", f"{name}/{entry}".lstrip("/"))

    def _put(self, path: str, name: str, status: os.stat_result) -> None:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None or not name:
            return
        member = tarfile.TarInfo(name)
        member.type, member.mtime = kind, status.st_mtime
        member.mode = stat.S_IMODE(status.st_mode)
        if self._mode is not None and kind != tarfile.SYMTYPE:
            member.mode = self._mode
        if kind == tarfile.SYMTYPE:
            member.linkname = os.readlink(path)
        if kind != tarfile.REGTYPE:
            self._tar.addfile(member)
            return
        if status.st_nlink > 1:
            first = self._names.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                member.type, member.linkname = tarfile.LNKTYPE, first
                self._tar.addfile(member)
                return
        member.size = status.st_size
        with open(path, "rb") as file:
            self._tar.addfile(member, file)


def _ids_of(owner: str) -> tuple[int, int]:
    """Return the numbers for users or groups of this cell's image, by name or number as `--chown` takes them."""
    user, colon, group = owner.partition(":")
    uid, primary = _numbers(user, "/etc/passwd")
    return uid, _numbers(group, "/etc/group")[0] if colon else primary


def _numbers(name: str, path: str) -> tuple[int, int]:
    if name.isdecimal():
        return int(name), int(name)
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                parts = line.rstrip("\n").split(":")
                if parts[0] == name and len(parts) > 2 and parts[2].isdecimal():
                    primary = parts[3] if len(parts) > 3 and parts[3].isdecimal() else parts[2]
                    return int(parts[2]), int(primary)
    raise UnfitError(f"the image has no user or group `{name}`")
