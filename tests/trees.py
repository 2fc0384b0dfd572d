"""What lies in a directory in which other processes make and delete files meanwhile.

`Path.rglob` fails when a directory goes between its name and its list, and so does the reading of a file that was listed.
"""

import contextlib
import os
from pathlib import Path


def paths(directory: Path) -> list[Path]:
    """Return all that lies below a directory, sorted; what goes meanwhile may be there or not."""
    found = []
    for folder, directories, files in os.walk(directory):  # it leaves out what it cannot list
        found += [Path(folder, name) for name in (*directories, *files)]
    return sorted(found)


def files(directory: Path) -> dict[Path, bytes]:
    """Return each regular file below a directory with its content, without those that go meanwhile."""
    contents = {}
    for path in paths(directory):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                contents[path] = path.read_bytes()
    return contents


def sockets(*directories: Path) -> list[Path]:
    """Return the sockets below some directories."""
    return [path for directory in directories for path in paths(directory) if path.is_socket()]
