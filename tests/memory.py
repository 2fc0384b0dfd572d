"""Directories in memory, for tests that write many small files: a disk takes longer to delete them than the tests take.

They are for this machine's own processes: a container has another /dev/shm.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import litter

ROOM_BYTES = 4 << 30


def parent() -> str:
    """Return where directories in memory are, or one on the disk if there is no room."""
    room = shutil.disk_usage("/dev/shm").free if os.path.ismount("/dev/shm") else 0
    return "/dev/shm" if room >= ROOM_BYTES else "/var/tmp"


@contextlib.contextmanager
def directory(kind: str) -> Iterator[Path]:
    """Make a directory, and remove it when the block ends; no other run of the tests takes it for litter."""
    path = Path(tempfile.mkdtemp(prefix=f"homeport-{kind}-", dir=parent()))
    try:
        with litter.held(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
