"""Removes what test servers that were killed have left: socket directories, and the files of PostgreSQL in memory.

A home with a long path has its sockets in `/tmp/homeport-<uid>-<digest>` (settings.socket_dir). A server that ends removes
the directory, and so does the next server of the same home; a server that a test kills has neither.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

SETTLED_S = 60  # a younger directory may be that of a server which starts now


def remove_dead(directory: Path = Path("/tmp"), memory: Path = Path("/dev/shm")) -> None:
    """Remove each such directory of this user in which nobody listens."""
    bound = Path("/proc/net/unix").read_text()
    for path in (*directory.glob(f"homeport-{os.getuid()}-*"), *memory.glob("homeport-pg-*")):
        with contextlib.suppress(FileNotFoundError):  # another run of the tests removes it
            if f" {path}/" not in bound and time.time() - path.stat().st_mtime >= SETTLED_S:
                shutil.rmtree(path, ignore_errors=True)
