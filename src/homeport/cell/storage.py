"""Measures the files that a container has written.

A container may nest directories deeper than Python recurses and than a path may be long (PATH_MAX). So this goes
by descriptors, and does not recurse. `homeport.removing` deletes such directories.
"""

import contextlib
import os
import stat

MAX_DEPTH = 500  # of a tree that is measured; each level holds a descriptor
TOO_DEEP = 1 << 60  # bytes: more than any limit


def measured(path: str) -> int:
    """Return how many bytes the files below a directory take on the disk.

    Files that are deleted meanwhile do not count. A tree deeper than `MAX_DEPTH` is taken to be larger than any limit.
    """
    total = 0
    levels: list[
        tuple[int, list[str]]
    ] = []  # a directory, and the entries that are not counted yet
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
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(name, flags, dir_fd=parent)
        levels.append((folder, []))
        levels[-1][1].extend(os.listdir(folder))
