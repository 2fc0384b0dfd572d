"""Kills processes that a container has left behind because its init was killed.

A process belongs to the container if it has its session, its temporary directory as /tmp or in TMPDIR, or a
parent that belongs to it. No other process is killed.
"""

import contextlib
import logging
import os
import select
import signal
import time
from pathlib import Path

from homeport.node.held import Held

PASSES = 20  # passes over all processes, because they may fork meanwhile
END_S = 10.0  # how long killed processes may take to end
NOBODY = -1  # not the leader of any session

log = logging.getLogger(__name__)


def end(leader: int, tmp: Path) -> None:
    """Kill all processes that are left of a container, and wait until they have ended; blocks.

    `leader` is its init, or `NOBODY` if another process may have that pid by now; `tmp` is the container's
    temporary directory.
    """
    marks = Marks(leader, tmp)
    deadline = time.monotonic() + END_S
    for _ in range(PASSES):
        try:
            pids = marks.left()
        except OSError as error:  # this process has no descriptor left
            log.warning("processes of an ended container may be left: %s", error)
            return
        killed = [held for pid in pids if (held := marks.kill(pid)) is not None]
        for held in killed:
            _wait(held, deadline)
            held.close()
        if not pids or time.monotonic() >= deadline:
            return


class Marks:
    """The marks by which the processes of one container are found."""

    def __init__(self, leader: int, tmp: Path) -> None:
        self._leader = leader
        self._variable = f"TMPDIR={tmp}\0".encode()
        self._tmp = _inode(tmp)

    def left(self) -> set[int]:
        """Return the pids of the container's running processes, without init."""
        children: dict[int, list[int]] = {}
        pids = set()
        for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes ten times as long
            if not name.isdigit() or int(name) == os.getpid():
                continue
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent, session = _stat(int(name))
                if state in "ZX":
                    continue
                children.setdefault(parent, []).append(int(name))
                if session == self._leader or self._has(int(name)):
                    pids.add(int(name))
        todo = list(pids)
        while todo:
            for child in children.get(todo.pop(), ()):
                if child not in pids:
                    pids.add(child)
                    todo.append(child)
        return pids - {self._leader, os.getpid()}

    def kill(self, pid: int) -> Held | None:
        """Kill a process by its pidfd, after a second check: the pid may be another process's by now.

        Returns the process, for the caller to close; None if it was not killed.
        """
        with contextlib.suppress(OSError, IndexError, ValueError):
            held = Held(pid, os.pidfd_open(pid))
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(held.close)
                _, parent, session = _stat(pid)
                if session == self._leader or self._has(pid) or self._has(parent):
                    held.signal(signal.SIGKILL)
                    on_failure.pop_all()
                    return held
        return None

    def _has(self, pid: int) -> bool:
        if self._tmp is not None and self._tmp == _inode(Path(f"/proc/{pid}/root/tmp")):
            return True
        with contextlib.suppress(OSError):
            return self._variable in Path(f"/proc/{pid}/environ").read_bytes()
        return False


def _inode(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


def _wait(held: Held, deadline: float) -> None:
    """Wait until a process has ended, which its parent may not have noticed yet."""
    poll = select.poll()
    poll.register(held.pidfd, select.POLLIN)
    poll.poll(max(deadline - time.monotonic(), 0) * 1000)


def _stat(pid: int) -> tuple[str, int, int]:
    """Return a process's state, parent and session (proc(5)); they follow the last `)` of the line."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])
