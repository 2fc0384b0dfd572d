"""Takes a step's changes of an environment out of the step's cell; the changes may be hostile.

The step's cell has ended, so nothing changes the files meanwhile. Only regular files and directories are taken,
and each file becomes this user's own. A link could lead anywhere on this machine, and the interpreter's own files
are started here: a step that makes a link or replaces the interpreter is an error.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from homeport import removing
from homeport.contract.errors import ImageError

MAX_DEPTH = 60
#: The files that homeport itself has made: the interpreter, and the directories that contain it.
_OWN = re.compile(r"pyvenv\.cfg|bin|lib|lib64|include|bin/(python|pypy)[\d.]*")
_MARKS = "user.overlay."  # overlayfs reads attributes with this prefix
_OPAQUE = f"{_MARKS}opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def take(changes: Path, venv: Path, *, whole: bool = False) -> None:
    """Move the changes into the environment `venv`; raise `ImageError` for files that must not be taken. Blocks.

    `changes` is the upper directory of an overlay on `venv` or, if it is the `whole`, a copy of `venv` that the
    step has changed.
    """
    with _opened(changes) as source, _opened(venv) as target:
        _take(source, target, "", whole, 0)


def _take(source: int, target: int, place: str, whole: bool, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ImageError(f"the step made directories that are too deep: `{place[:200]}…`")
    names = os.listdir(source)
    if whole or _is_opaque(source):
        for name in {*os.listdir(target)} - {*names}:
            _remove(target, name, f"{place}{name}")
    for name in names:
        path, status = f"{place}{name}", os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _make_directory(target, name, path)
            with _opened(name, source) as inner, _opened(name, target) as below:
                _take(inner, below, f"{path}/", whole, depth + 1)
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            # Overlayfs's mark of what is deleted.
            _remove(target, name, path)
        elif not _is_same(source, target, name, status):
            _check(path, status)
            _remove(target, name, path)
            _move(source, target, name, status)


def _is_same(source: int, target: int, name: str, status: os.stat_result) -> bool:
    """Return whether the step has left a file or a link unchanged."""
    with contextlib.suppress(OSError):
        before = os.stat(name, dir_fd=target, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(name, dir_fd=source) == os.readlink(name, dir_fd=target)
        same = (before.st_size, before.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        return same and stat.S_ISREG(status.st_mode) and stat.S_ISREG(before.st_mode)
    return False


def _check(path: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a special file"
    raise ImageError(
        f"the step made {kind} among the packages: `{path[:200]}`",
        hint="an image with a root file system may have any files: "
        'begin it with `debian_slim().apt_install("ca-certificates")`, for example',
    )


def _move(source: int, target: int, name: str, status: os.stat_result) -> None:
    mode = 0o755 if status.st_mode & 0o100 else 0o644  # neither setuid nor writable by others
    file = f"/proc/self/fd/{source}/{name}"
    for attribute in os.listxattr(file, follow_symlinks=False):
        if attribute.startswith(_MARKS):
            os.removexattr(file, attribute, follow_symlinks=False)
    os.chown(name, os.geteuid(), os.getegid(), dir_fd=source, follow_symlinks=False)
    os.chmod(name, mode, dir_fd=source)
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _make_directory(target: int, name: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
            _remove(target, name, path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=target)


def _remove(target: int, name: str, path: str) -> None:
    try:
        status = os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return
    if _OWN.fullmatch(path):
        raise ImageError(f"the step changed the environment's own file `{path}`")
    if stat.S_ISDIR(status.st_mode):
        removing.remove(name, target)
    else:
        os.unlink(name, dir_fd=target)


def _is_opaque(directory: int) -> bool:
    """Return whether a directory of an overlay hides the directory below it."""
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return False


@contextlib.contextmanager
def _opened(path: "str | Path", parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
