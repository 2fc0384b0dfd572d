"""What a container has written: how much it is, and its end.

A container may nest directories deeper than Python recurses and than a path may be long (PATH_MAX), and may
take its own rights to them away. So both functions go by descriptors, and neither recurses.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator

MAX_DEPTH = 500  # of a tree that is measured; each level holds a descriptor
TOO_DEEP = 1 << 60  # bytes: more than any limit


def measured(path: str) -> int:
    """Return how many bytes the files below a directory take on the disk.

    What ends meanwhile does not count. A tree deeper than `MAX_DEPTH` is taken to be larger than any limit.
    """
    total = 0
    levels: list[tuple[int, list[str]]] = []  # a directory, and what is still to be counted in it
    try:
        _descend(levels, path, None)
        while levels:
            folder, names = levels[-1]
            if not names:
                levels.pop()
                os.close(folder)
                continue
            name = names.pop()
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    total += status.st_blocks * 512
                elif len(levels) == MAX_DEPTH:
                    return TOO_DEEP
                else:
                    _descend(levels, name, folder)
    finally:
        for folder, _ in levels:
            os.close(folder)
    return total


def _descend(levels: list[tuple[int, list[str]]], name: str, parent: int | None) -> None:
    with contextlib.suppress(OSError):
        folder = _open(name, parent)
        levels.append((folder, []))
        levels[-1][1].extend(os.listdir(folder))


def remove(path: str) -> None:
    """Delete a directory and all that is below it. What cannot be deleted stays, without an error.

    Nobody may write there any more.
    """
    with contextlib.suppress(OSError), _opened(path, None) as top:
        while _flattened(top):
            pass
        os.rmdir(path)


def _flattened(top: int) -> bool:
    """Delete a directory's files and directories; what is in these moves up first. Return whether that did anything."""
    done = False
    for name in os.listdir(top):
        with contextlib.suppress(OSError):
            if _unlinked(name, top):
                done = True
                continue
            with _opened(name, top) as folder:
                for each in os.listdir(folder):
                    with contextlib.suppress(OSError):
                        if not _unlinked(each, folder):
                            _moved(each, folder, top)
                        done = True
            os.rmdir(name, dir_fd=top)
            done = True
    return done


def _moved(name: str, folder: int, top: int) -> None:
    new = secrets.token_hex(8)
    try:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:  # its `..` changes, so one must be allowed to write in it
        os.chmod(name, 0o700, dir_fd=folder)
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)


def _unlinked(name: str, folder: int) -> bool:
    """Delete a file; return False if it is a directory."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return False
    return True


@contextlib.contextmanager
def _opened(name: str, parent: int | None) -> Iterator[int]:
    """A directory that is to go: its owner may do in it what he likes."""
    try:
        folder = _open(name, parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        folder = _open(name, parent)
    try:
        if not os.fstat(folder).st_mode & stat.S_IWUSR:
            os.fchmod(folder, 0o700)
        yield folder
    finally:
        os.close(folder)


def _open(name: str, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)
