"""A private folder for work that must not leave half of anything: a backup, a restore.

It is locked while it is used, so the next one deletes what a killed process has left, and nothing else.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from homeport.contract.errors import StorageError

PREFIX, SUFFIX = ".homeport-", ".part"


@contextlib.contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """Yield a private folder in the same file system, deleted after the block; `OSError` becomes `StorageError`."""
    folder = parent / f"{PREFIX}{secrets.token_hex(4)}{SUFFIX}"
    try:
        _sweep(parent)
        folder.mkdir(mode=0o700)
        with _locked(folder):
            yield folder
    except OSError as error:
        raise StorageError(
            f"{error.filename or parent}: {error.strerror}",
            hint="nothing has been changed; `df -h` shows which disk is full",
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; `BlockingIOError` if another process uses it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Delete the folders of processes that were killed, and that this user owns."""
    for folder in parent.glob(f"{PREFIX}*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.geteuid():
                continue
            with _locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
