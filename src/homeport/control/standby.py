"""Waits until this process may lead a home: `homeport up --standby`.

The standby is a second process with the same home, on the same machine or on another one that sees the home's file system. It leads
as soon as the leader has ended, because the kernel releases the lock of the home then, or the file system that of a machine that is gone.
Elsewhere it leads only when the ingress of the leader's machine is gone too. With PostgreSQL it also leads when the leader has lost the
advisory lock of the database, because its connection ended: the standby takes that lock, and the leader, which
looks every few seconds, hands over. A leader that does not (it hangs) is killed, if it is on this machine: two must never lead.

The lock's file has the leader's pid, what the leader does, and its machine. Only one that LEADS has claimed the database: a
leader that is still starting, or HANDS_OVER to the next server of its own, has not lost it.

Then the standby starts again in a new interpreter, because homeport may have been installed again while it waited,
and starts like every server after a kill: it adopts the containers and HAProxy.
"""

import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from homeport import durable
from homeport.contract.errors import AlreadyExists, StorageError
from homeport.contract.starting import LOCK, WAITING, leader
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.state.database import Database

LOOK_S = 0.5
LIVES_S = 0.5  # for the ingress of another machine to take a connection
PATIENCE_S = 6.0  # for a leader without its database to hand over; it looks every 3 s
HAND_OVER_S = 5.0  # how long the next server of a leader that has handed over may take to begin
LEADS, HANDS_OVER = "leads", "hands over"

log = logging.getLogger(__name__)


def wait(settings: Settings) -> None:
    """Block until this process may lead. `AlreadyExists` if another standby waits."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / WAITING).open("a") as lock_file:
        if not _lock(lock_file):
            raise AlreadyExists(f"another standby waits for {settings.home}")
        lock_file.truncate(0)
        lock_file.write(f"{_machine()}\n")
        lock_file.flush()
        log.info("waiting as a standby for %s", settings.home)
        # Not earlier: every server imports this module before its first zygote begins, and SQLAlchemy is large.
        from homeport.state import urls
        from homeport.state.database import Database

        gc.enable()  # it may wait for months (see `__main__`)
        database, lock = Database(urls.of(settings.database, settings.home)), settings.home / LOCK
        try:
            while not (
                _is_free(lock)
                and not _is_handed_over(lock)
                and not _answers_elsewhere(settings)
                and _may_claim(database)
            ):
                if database.postgres and _has_lost(lock, database):
                    log.warning("the leader has lost the database: this process takes over")
                    _replace(lock)
                    return
                time.sleep(LOOK_S)
        finally:
            database.dispose()


def lead(words: Sequence[str]) -> NoReturn:
    """Become the server: the installed homeport, also if this process has imported an earlier one."""
    log.info("taking over")
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "homeport.control", *words])  # noqa: S606


def is_waiting_here(home: Path) -> bool:
    """Return whether a standby waits for a home on this machine, and so may take over what runs here."""
    path = home / WAITING
    if _is_free(path):
        return False
    with contextlib.suppress(OSError):
        return path.read_text().strip() in ("", _machine())
    return False


@contextlib.contextmanager
def led(path: Path) -> Iterator[bool]:
    """Lock a home, and record who has the lock; yields False if another process has it."""
    with path.open("a+") as lock:
        if not _lock(lock):
            yield False
            return
        lock.truncate(0)
        lock.write(_line(""))
        lock.flush()
        yield True


def note(home: Path, what: str) -> None:
    """Write down the state of a home's leader, this process: LEADS or HANDS_OVER."""
    with contextlib.suppress(OSError):  # a full disk: a standby waits for the end of this process
        (home / LOCK).write_text(_line(what))


def _line(what: str) -> str:
    return f"{os.getpid()}\n{what}\n{_machine()}\n"


def _machine() -> str:
    """Return which machine this is, since it was started: on another one a pid means another process."""
    try:
        boot = durable.boot()
    except OSError:
        boot = ""
    return f"{os.uname().nodename} {boot}"


def _may_claim(database: "Database") -> bool:
    """Return whether PostgreSQL takes this server; it keeps the lock of a machine that is gone for some seconds."""
    if not database.postgres:
        return True
    may = _claims(database)
    database.dispose()  # the server that this process becomes claims it again
    return may


def _answers_elsewhere(settings: Settings) -> bool:
    """Return whether an ingress of this home runs on another machine: two would both count the slots of one container.

    Its server has been killed, and is started again there; visitors are answered meanwhile.
    """
    for address in filter(None, settings.standby_addresses.split(",")):
        for file in settings.home.glob("run-*/ingress/port"):
            if file.parents[1] == settings.run_dir:
                continue
            with contextlib.suppress(OSError, ValueError):
                socket.create_connection((address, int(file.read_text())), LIVES_S).close()
                return True
    return False


def check_alone(settings: Settings) -> None:
    """Raise `AlreadyExists` if an ingress of this home runs on another machine."""
    if _answers_elsewhere(settings):
        raise AlreadyExists(
            f"HAProxy on another machine answers for {settings.home}",
            hint="start the server there, or end it there: `homeport down`",
        )


def _noted(path: Path) -> str:
    try:
        return leader(path.read_text())[1]
    except OSError:
        return ""


def _is_handed_over(path: Path) -> bool:
    """Return whether the next server of the last leader is about to begin."""
    with contextlib.suppress(OSError):
        since_s = time.time() - path.stat().st_mtime
        return _noted(path) == HANDS_OVER and 0 <= since_s < HAND_OVER_S
    return False


def _has_lost(path: Path, database: "Database") -> bool:
    """Return whether the leader has lost the database; this process has claimed it then."""
    if _noted(path) != LEADS or not _claims(database):
        return False
    if _noted(path) == LEADS:
        return True
    database.dispose()  # it has handed over at this very moment
    return False


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
    """Return the pid of the process that has the lock; 0 if that is not a server of homeport on this machine."""
    with contextlib.suppress(OSError, ValueError):
        text = path.read_text()
        if text.split("\n")[2:3] not in ([], [""], [_machine()]):
            return 0
        pid, _ = leader(text)
        if pid and b"homeport.control" in Path(f"/proc/{pid}/cmdline").read_bytes():
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
