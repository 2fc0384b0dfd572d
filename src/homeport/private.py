"""Writes files that nobody else may read: keys, certificates, backups. Each has mode 0600, and is written through to the disk.

Makes directories that nobody else may enter.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from homeport.contract.errors import StorageError
from homeport.durable import sync


def directory(path: Path) -> None:
    """Make a directory that only this user may enter, or take the one that is there; `StorageError` if it is another user's."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Refuse links: below /tmp another user may have made one.
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise StorageError(
            f"{path} belongs to another user, or is a link",
            hint="remove it, or name another directory in HOMEPORT_HOME",
        )
    path.chmod(0o700)


def write(path: Path, content: bytes) -> None:
    """Write a file, or replace it: whole or not at all. Makes its directory, with mode 0700, if there is none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.part")
    try:
        with created(part) as file:
            file.write(content)
        part.replace(path)
        sync(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def created(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file; its content is on the disk when the block ends without an error.

    Raises `FileExistsError` for whatever is there already, a link too. After an error the file stays.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
