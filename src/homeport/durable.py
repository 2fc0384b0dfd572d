"""Writes through to the disk, so that a power cut takes nothing back; tells one start of the machine from another."""

import os
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """Return the id of the machine's last start (man 5 proc)."""
    return BOOT.read_text().strip()


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk (man 2 fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: int | Path) -> None:
    """Write everything in a folder's file system through to the disk (man 2 syncfs)."""
    import ctypes

    if isinstance(folder, Path):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync_all(descriptor)
        finally:
            os.close(descriptor)
    elif ctypes.CDLL(None, use_errno=True).syncfs(folder):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "syncfs")
