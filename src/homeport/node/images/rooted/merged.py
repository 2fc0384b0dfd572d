"""Says what a path is in an image, from the directories of its layers and without a mount of them.

The layers may be hostile. A link leads where it leads in the image, and never to a file of this machine.
"""

# ruff: noqa: PTH115 - a link's text is no path of this machine

import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from homeport.node.images.owned.unpack import OPAQUE_MARK

MAX_LINKS = 40  # on the way to one path, as the kernel has it


def is_directory(layers: Sequence[str], path: str) -> bool:
    """Return whether a path is a directory, or a link to one. `layers` are directories, the lowest first. Blocks."""
    way = [[*reversed(layers)]]  # of each directory on the way, what the layers have of it
    names, links = path.split("/")[::-1], 0
    while names:
        name = names.pop()
        if name == "..":
            way = way[:-1] or way  # the root is above itself
        elif name not in ("", "."):
            below, link = _entry(way[-1], name)
            if below:
                way.append(below)
                continue
            links += 1
            if not link or links > MAX_LINKS:
                return False
            if link.startswith("/"):
                del way[1:]
            names += link.split("/")[::-1]
    return True


def _entry(directories: Sequence[str], name: str) -> tuple[list[str], str]:
    """Return an entry of a directory that several layers have: a directory's own parts, or where a link leads."""
    below: list[str] = []
    for directory in directories:
        path = f"{directory}/{name}"
        with suppress(OSError):  # the layer has no such entry
            mode = os.lstat(path).st_mode
            if not stat.S_ISDIR(mode):  # it hides what is below
                return below, "" if below or not stat.S_ISLNK(mode) else os.readlink(path)
            below.append(path)
            if OPAQUE_MARK in os.listxattr(path, follow_symlinks=False):
                break
    return below, ""
