"""Waits until this process may lead a home: `homeport up --standby`.

The standby is a second process on the same machine, with the same home. It leads as soon as the leader has ended,
because the kernel releases the lock of the home then. With PostgreSQL it also leads when the leader has lost the
advisory lock of the database, because its connection ended: the standby takes that lock, and the leader, which
looks every few seconds, hands over. A leader that does not (it hangs) is killed: two must never lead.

After that the standby starts like every server after a kill: it adopts the containers and HAProxy.
"""

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from homeport.contract.errors import AlreadyExists, StorageError
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.state.database import Database

LOOK_S = 0.5
PATIENCE_S = 6.0  # for a leader without its database to hand over; it looks every 3 s
LOCK, WAITING = "lock", "standby.lock"

log = logging.getLogger(__name__)


def wait(settings: Settings) -> None:
    """Block until this process may lead. `AlreadyExists` if another standby waits."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / WAITING).open("a") as mine:
        if not _lock(mine):
            raise AlreadyExists(f"another standby waits for {settings.home}")
        log.info("waiting as a standby for %s", settings.home)
        # Not earlier: every server imports this module before its first zygote begins, and SQLAlchemy is large.
        from homeport.state import urls
        from homeport.state.database import Database

        database = Database(urls.of(settings.database, settings.home))
        try:
            while not _is_free(settings.home / LOCK):
                if database.postgres and _claims(database):
                    log.warning("the leader has lost the database: this process takes over")
                    _replace(settings.home / LOCK)
                    return
                time.sleep(LOOK_S)
        finally:
            database.dispose()


def is_waiting(home: Path) -> bool:
    """Return whether a standby waits for a home."""
    return not _is_free(home / WAITING)


@contextlib.contextmanager
def led(path: Path) -> Iterator[bool]:
    """Lock a home, and note who has the lock; yields False if another process has it."""
    with path.open("a+") as lock:
        if not _lock(lock):
            yield False
            return
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield True


def _claims(database: "Database") -> bool:
    """Return whether the database's lock was free; this process has it then."""
    try:
        database.claim()
    except StorageError:  # the leader has it, or the database does not answer
        return False
    return True


def _replace(path: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until the leader has handed over; kill it if it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while not _is_free(path):
        if time.monotonic() > deadline and (pid := _leader(path)):
            log.warning("the leader (pid %s) does not hand over, and is killed", pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sleep(LOOK_S / 5)


def _leader(path: Path) -> int:
    """Return the pid of the process that has the lock; 0 if that is not a server of homeport."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        if b"homeport.control" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return 0


def _is_free(path: Path) -> bool:
    try:
        with path.open("a") as lock:
            return _lock(lock)
    except FileNotFoundError:
        return True


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
