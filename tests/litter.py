"""Removes what test servers that were killed have left: socket directories, and files in memory.

A home with a long path has its sockets in `/tmp/homeport-<uid>-<digest>` (settings.socket_dir). A server that ends removes
the directory, and so does the next server of the same home; a server that a test kills has neither. A process whose clock is
moved by libfaketime has two files in memory, which it removes unless it is killed.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

SETTLED_S = 60  # a younger directory may be that of a server which starts now


def remove_dead(directory: Path = Path("/tmp"), memory: Path = Path("/dev/shm")) -> None:
    """Remove each such directory of this user in which nobody listens, and which no test holds."""
    bound = Path("/proc/net/unix").read_text()
    in_memory = (*memory.glob("homeport-pg-*"), *memory.glob("homeport-test-*"))
    for path in (*directory.glob(f"homeport-{os.getuid()}-*"), *in_memory):
        # Another run of the tests removes it, or it is another user's.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if f" {path}/" in bound or time.time() - path.stat().st_mtime < SETTLED_S:
                continue
            with held(path) as is_ours:
                if is_ours:
                    shutil.rmtree(path, ignore_errors=True)


def remove_clocks(memory: Path = Path("/dev/shm")) -> None:
    """Remove the files of libfaketime, unless a process uses it: its children open them by name."""
    found = [*memory.glob("faketime_shm_*"), *memory.glob("sem.faketime_sem_*")]
    if not found or _is_loaded("libfaketime"):
        return
    for path in found:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if time.time() - path.stat().st_mtime >= SETTLED_S:
                path.unlink()


def _is_loaded(library: str) -> bool:
    """Return whether a process has loaded a library."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if library in maps.read_text(errors="replace"):
                return True
    return False


@contextlib.contextmanager
def held(directory: Path) -> Iterator[bool]:
    """Hold a directory until the block ends, or this process; yield False if another process holds it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
