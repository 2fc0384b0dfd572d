"""Lays files into an image for a step, and takes files out of another image; both in a cell, as its root.

In a cell, a path means what it means for the image's programs: a link such as /bin leads to the same place, and
a directory that the layers below have keeps its permissions.
"""

# ruff: noqa: PTH103, PTH112, PTH113, PTH116, PTH119, PTH123, PTH207, PTH208

import glob
import os
import stat
import tarfile
from collections.abc import Iterable, Sequence
from typing import IO

from homeport.node.images.owned import unpack
from homeport.node.images.owned.archives import UnfitError


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
    top = os.stat("/").st_dev

    def dressed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.ischr() or member.isblk():
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        if mode is not None and not member.issym():
            member.mode = mode
        return member

    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(path: str, name: str) -> None:
            status = os.lstat(path)
            if stat.S_ISSOCK(status.st_mode):
                return
            if not stat.S_ISDIR(status.st_mode):
                tar.add(path, name, recursive=False, filter=dressed)
                return
            if status.st_dev != top:
                return
            if name:
                tar.add(path, name, recursive=False, filter=dressed)
            for entry in sorted(os.listdir(path)):
                add(f"{path}/{entry}", f"{name}/{entry}".lstrip("/"))

        for path in matched:
            real = os.path.realpath(path)
            place = target.strip("/")
            if os.path.isdir(real):
                if is_directory or not place:
                    for item in sorted(os.listdir(real)):
                        add(f"{real}/{item}", f"{place}/{item}".lstrip("/"))
                else:
                    add(real, place)
            else:
                add(real, f"{place}/{os.path.basename(path)}".lstrip("/") if into else place)
    out.flush()  # this process ends without closing its files
    return {"bytes": out.tell()}


def _ids_of(owner: str) -> tuple[int, int]:
    """Return the numbers for users or groups of this cell's image, by name or number as `--chown` takes them."""
    user, colon, group = owner.partition(":")
    uid, primary = _numbers(user, "/etc/passwd")
    return uid, _numbers(group, "/etc/group")[0] if colon else primary


def _numbers(name: str, path: str) -> tuple[int, int]:
    if name.isdigit():
        return int(name), int(name)
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                parts = line.rstrip("\n").split(":")
                if parts[0] == name and len(parts) > 2 and parts[2].isdigit():
                    primary = parts[3] if len(parts) > 3 and parts[3].isdigit() else parts[2]
                    return int(parts[2]), int(primary)
    raise UnfitError(f"the image has no user or group `{name}`")
