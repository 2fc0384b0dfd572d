"""Mounts that travel: opened where the host's files can be seen, put in place inside a cell.

`opened` runs in the node (as root) or in the keeper (for an ordinary user), and its descriptors go by
SCM_RIGHTS to the process that is about to become a container, which calls `place`.
"""

import enum
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from homeport.cell import kernel

#: In a base cell: what it is made of. In a private cell, until `place` takes it away: its storage.
STAGE = "/.cell"
PLACES = "places.json"  # there: where the cell shows directories of the host


class Access(str, enum.Enum):
    """What a cell may do with a mount."""

    READ = "read"
    WRITE = "write"  # what it writes is the host's: a volume
    PRIVATE = "private"  # what it writes is in its own storage, and goes with the cell


@dataclass(frozen=True, slots=True)
class Mount:
    """A place in a cell for a tree that was opened outside."""

    target: str
    access: Access = Access.READ


def opened(
    path: str, *, writable: bool = False, users: int = 0, devices: bool = False, below: bool = True
) -> int:
    """A mount of `path` that is mounted nowhere, as a descriptor; nothing in it is setuid.

    `users`, a descriptor of a user namespace: files of the host's root belong to that namespace's
    root (id-mapped, root only). Never for what can be written: a setuid file made in the cell would be
    the host's root's. `below`: with what is mounted below it.
    """
    if writable and users:
        raise ValueError("what a cell may write must belong to the cell's own ids")
    tree = kernel.open_tree(path, recursive=below)
    attributes = kernel.ATTR_NOSUID
    attributes |= 0 if writable else kernel.ATTR_RDONLY
    attributes |= 0 if devices else kernel.ATTR_NODEV
    try:
        kernel.mount_setattr(tree, attributes, recursive=below)
        if users:
            kernel.mount_setattr(tree, kernel.ATTR_IDMAP, users, recursive=below)
    except OSError:
        os.close(tree)
        raise
    return tree


def place(pairs: Sequence[tuple[Mount, int]]) -> None:
    """Put opened trees in their places, inside a private cell, once; closes the descriptors.

    A tree on /root must not hide an interpreter at /root/.pyenv, so what the cell shows below a target is
    taken up first and put back on top. At the end the cell's storage is out of its sight.
    """
    shown = read_places()
    for position, (mount, tree) in enumerate(sorted(pairs, key=lambda pair: pair[0].target)):
        hidden = [path for path in shown if path.startswith(mount.target.rstrip("/") + "/")]
        above = [(path, kernel.open_tree(path)) for path in hidden]
        point(mount.target, directory=is_directory(tree))
        if mount.access is Access.PRIVATE and is_directory(tree):
            _private(position, mount.target, tree)
        else:
            kernel.move_mount(tree, mount.target)
        os.close(tree)
        for path, kept in above:
            point(path, directory=is_directory(kept))
            kernel.move_mount(kept, path)
            os.close(kept)
    kernel.umount(STAGE)


def write_places(directory: str, places: Sequence[str]) -> None:
    """Note for `place` and for private cells what a base cell shows, outermost first."""
    with open(f"{directory}/{PLACES}", "w", encoding="utf-8") as file:
        json.dump(list(places), file)


def read_places() -> list[str]:
    """What `write_places` noted."""
    with open(f"{STAGE}/{PLACES}", encoding="utf-8") as file:
        return list(json.load(file))


def point(path: str, *, directory: bool) -> None:
    """Have something to mount on."""
    os.makedirs(path if directory else os.path.dirname(path), exist_ok=True)
    if not directory and not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def is_directory(tree: int) -> bool:
    """Whether an opened tree is a directory, and not one file."""
    return os.path.isdir(f"/proc/self/fd/{tree}")


def overlay(target: str, lower: Sequence[str], storage: str) -> None:
    """Mount `lower` (the uppermost first) at `target`, with what is written in `storage`.

    `userxattr`, as in every other place: layers written in one mode and read in the other show
    deleted files again (man 5 overlayfs is the kernel's filesystems/overlayfs.rst).
    """
    upper, work = f"{storage}/files", f"{storage}/work"
    for path in (storage, upper, work):
        os.mkdir(path)
    data = f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work},userxattr"
    kernel.mount("overlay", target, "overlay", kernel.NOSUID | kernel.NODEV, data)


def _private(position: int, target: str, tree: int) -> None:
    lower = f"{STAGE}/lower{position}"
    os.mkdir(lower)
    kernel.move_mount(tree, lower)
    overlay(target, [lower], f"{STAGE}/above{position}")
    kernel.umount(lower)  # the overlay has a mount of its own
