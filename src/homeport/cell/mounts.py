"""Mounts that one process opens and another puts in place: opened where the host's files can be
seen, placed inside a cell.

`opened` runs in the node (as root) or in the keeper (for an ordinary user), and its descriptors go by
SCM_RIGHTS to the process that is about to become a container, which calls `place`.
"""

import contextlib
import enum
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence

from homeport.cell import kernel
from homeport.contract.dataclass import dataclass

#: In a base cell: what it is made of. In a private cell, until `place` takes it away: its storage.
STAGE = "/.cell"
PLACES = "places.json"  # there: where the cell shows directories of the host
WRITTEN = "root/files"  # in a cell's storage: what it has written
BELOW = "below"  # in a cell's storage: the storage of the nested cell that it is below


class Access(str, enum.Enum):
    """The kinds of access to a mount."""

    READ = "read"
    WRITE = "write"  # what it writes is the host's: a volume
    # What it writes is in its own storage, and goes with the cell. What the image has there stays in sight.
    PRIVATE = "private"
    # As PRIVATE, for each directory in the tree at its own absolute path, over what is there already. The
    # mount's target is not looked at.
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Mount:
    """A place in a cell for a tree that was opened outside."""

    target: str
    access: Access = Access.READ


def opened(
    path: str,
    *,
    writable: bool = False,
    users: int = 0,
    devices: bool = False,
    below: bool = True,
    inside: str = "",
) -> int:
    """A mount of `path` that is mounted nowhere, as a descriptor; nothing in it is setuid.

    `users`, a descriptor of a user namespace: files of the host's root belong to that namespace's
    root (id-mapped, root only). Never for what can be written: a setuid file made in the cell would be
    the host's root's. `below`: with what is mounted below it. `inside`: a directory below `path`, where
    containers may have put links; none of them leads out of `path`.
    """
    if writable and users:
        raise ValueError("what a cell may write must belong to the cell's own ids")
    with _inside(path, inside) as place:
        tree = kernel.open_tree(place, recursive=below)
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


@contextlib.contextmanager
def _inside(path: str, inside: str) -> Iterator[str]:
    if not inside:
        yield path
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    root = os.open(path, flags)
    try:
        directory = kernel.open_in_root(root, inside, flags)
    finally:
        os.close(root)
    try:
        yield f"/proc/self/fd/{directory}"
    finally:
        os.close(directory)


def place(
    pairs: Sequence[tuple[Mount, int]],
    *,
    stays: bool = False,
    last: Callable[[str], None] | None = None,
) -> None:
    """Put opened trees in their places, inside a private cell, once; closes the descriptors.

    A tree on /root must not hide an interpreter at /root/.pyenv, so what the cell shows below a target is
    taken up first and put back on top. At the end the cell's storage is unmounted, unless it
    `stays`, in a nested cell. Before that, `last` is called with the storage.
    """
    shown = read_places()
    storage = f"{STAGE}/up" if stays else STAGE
    for position, (mount, tree) in enumerate(sorted(pairs, key=lambda pair: pair[0].target)):
        if mount.access is Access.MERGED:
            _merge(position, tree, storage, shown)
            os.close(tree)
            continue
        with still_shown(mount.target, shown):
            _point(position, mount.target, storage, directory=is_directory(tree))
            if not is_directory(tree):
                kernel.move_mount(tree, mount.target)
            elif mount.access is Access.PRIVATE:
                _private(str(position), mount.target, tree, storage, _has_more(mount.target, shown))
            elif mount.access is Access.READ and (inner := _shown_below(mount.target, shown)):
                _pointed(str(position), mount.target, tree, storage, inner)
            else:
                kernel.move_mount(tree, mount.target)
        os.close(tree)
    if last is not None:
        last(storage)
    if not stays:
        kernel.umount(STAGE)


def _has_more(target: str, shown: Sequence[str]) -> bool:
    """Return whether a directory has more than the files of the host that the cell shows."""
    below = target.rstrip("/") + "/"
    hosts = {path[len(below) :].partition("/")[0] for path in shown if path.startswith(below)}
    return bool({*os.listdir(target)} - hosts)


def _shown_below(target: str, shown: Sequence[str]) -> list[str]:
    return [path for path in shown if path.startswith(target.rstrip("/") + "/")]


@contextlib.contextmanager
def still_shown(target: str, shown: Sequence[str]) -> Iterator[None]:
    """After the block, show again the files that the cell shows below a target, above the new mount."""
    above = [(path, kernel.open_tree(path)) for path in _shown_below(target, shown)]
    yield
    for path, tree in above:
        point(path, directory=is_directory(tree))
        kernel.move_mount(tree, path)
        os.close(tree)


def _merge(position: int, tree: int, storage: str, shown: Sequence[str]) -> None:
    """Show what is in the tree at the same paths of the root, beside what is there."""
    lower = f"{storage}/lower{position}"
    os.mkdir(lower)
    kernel.move_mount(tree, lower)
    for number, inner in enumerate(targets(lower)):
        path, added = f"/{inner}", f"{lower}/{inner}"
        with still_shown(path, shown):
            if not os.path.isdir(added):
                _copy(added, path)
                continue
            below = [path] if os.path.isdir(path) else []
            point(path, directory=True)
            _overlay(path, [added, *below], f"{position}.{number}", storage)
    kernel.umount(lower)


def targets(tree: str) -> list[str]:
    """Return the directories for the files of a tree, as relative paths: as few and as deep as possible.

    A directory that holds only another one is passed over: `/srv/www/a.css` goes to /srv/www.
    `_merge`
    handles a path that cannot be made because a directory above it is read-only.
    """
    directories = []
    for entry in sorted(os.scandir(tree), key=lambda entry: entry.name):
        path = entry.name
        while os.path.isdir(f"{tree}/{path}"):
            inner = os.listdir(f"{tree}/{path}")
            only = f"{path}/{inner[0]}" if len(inner) == 1 else ""
            if not (only and os.path.isdir(f"{tree}/{only}") and os.path.isdir(f"/{only}")):
                break
            path = only
        directories.append(path)
    return directories


def _copy(source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    shutil.copy(source, target)


def write_places(directory: str, places: Sequence[str]) -> None:
    """Note for `place` and for private cells what a base cell shows, outermost first."""
    with open(f"{directory}/{PLACES}", "w", encoding="utf-8") as file:
        json.dump(list(places), file)


def read_places() -> list[str]:
    """Return the places that `write_places` noted."""
    with open(f"{STAGE}/{PLACES}", encoding="utf-8") as file:
        return list(json.load(file))


def point(path: str, *, directory: bool) -> None:
    """Make the file or directory to mount on."""
    os.makedirs(path if directory else os.path.dirname(path), exist_ok=True)
    if not directory and not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _point(position: int, path: str, storage: str, *, directory: bool) -> None:
    """Make a mount point. Below a read-only directory of the image, such as /usr, make that
    directory writable first.
    """
    try:
        point(path, directory=directory)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        make_writable(path if directory else os.path.dirname(path), f"{position}.above", storage)
        point(path, directory=directory)


def make_writable(path: str, name: str, storage: str) -> None:
    """Make a directory; below a read-only one of the image, what is written there is in `storage` under a new `name`."""
    above = path
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if os.statvfs(above).f_flag & os.ST_RDONLY:
        with still_shown(above, read_places()):
            _overlay(above, [above], name, storage)
    os.makedirs(path, exist_ok=True)


def is_directory(tree: int) -> bool:
    """Return whether an opened tree is a directory, and not a file."""
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


def _private(name: str, target: str, tree: int, storage: str, over: bool) -> None:
    lower = f"{storage}/lower{name}"
    os.mkdir(lower)
    kernel.move_mount(tree, lower)
    _overlay(target, [lower, target] if over else [lower], name, storage)
    kernel.umount(lower)  # the overlay has a mount of its own


def _pointed(name: str, target: str, tree: int, storage: str, inner: Sequence[str]) -> None:
    """Show a read-only tree, with mount points for the files that the cell shows below the target."""
    lower, points = f"{storage}/lower{name}", f"{storage}/points{name}"
    os.mkdir(points)
    for path in inner:
        point(points + path[len(target.rstrip("/")) :], directory=os.path.isdir(path))
    os.mkdir(lower)
    kernel.move_mount(tree, lower)
    data = f"lowerdir={points}:{lower},userxattr"
    kernel.mount("overlay", target, "overlay", kernel.NOSUID | kernel.NODEV | kernel.RDONLY, data)
    kernel.umount(lower)


def _overlay(target: str, lower: Sequence[str], name: str, storage: str) -> None:
    # What the nested cell, which this one is below, has written there.
    written_above = f"{STAGE}/{BELOW}/above{name}/files"
    above = [written_above] if os.path.isdir(written_above) else []
    overlay(target, [*above, *lower], f"{storage}/above{name}")
