"""Processes that a container has left behind, where its init was killed before it could end them.

They are known by what only a process of the container has: its session, its temporary directory as /tmp
or in TMPDIR, or a parent that is one of them. Nobody else is touched.
"""

import contextlib
import os
import signal
from pathlib import Path

from homeport.node.held import Held

PASSES = 20  # somebody may be forking meanwhile
NOBODY = -1  # leads no session


def end(leader: int, tmp: Path) -> None:
    """SIGKILL to everything that is left of a container; blocks for some milliseconds.

    `leader` is its init, or `NOBODY` where that number may be somebody else's by now; `tmp` is the
    container's temporary directory.
    """
    marks = Marks(leader, tmp)
    for _ in range(PASSES):
        found = marks.left()
        for pid in found:
            marks.kill(pid)
        if not found:
            return


class Marks:
    """What the processes of one container have, and no other."""

    def __init__(self, leader: int, tmp: Path) -> None:
        self._leader = leader
        self._variable = f"TMPDIR={tmp}\0".encode()
        self._tmp = _inode(tmp)

    def left(self) -> set[int]:
        """Their pids, but for init; those that have ended do not count."""
        children: dict[int, list[int]] = {}
        found = set()
        for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes ten times as long
            if not name.isdigit() or int(name) == os.getpid():
                continue
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent, session = _stat(int(name))
                if state == "Z":
                    continue
                children.setdefault(parent, []).append(int(name))
                if session == self._leader or self._has(int(name)):
                    found.add(int(name))
        todo = list(found)
        while todo:
            for child in children.get(todo.pop(), ()):
                if child not in found:
                    found.add(child)
                    todo.append(child)
        return found - {self._leader, os.getpid()}

    def kill(self, pid: int) -> None:
        """By a descriptor, and after another look: the number may be somebody else's by now."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            held = Held(pid, os.pidfd_open(pid))
            try:
                _, parent, session = _stat(pid)
                if session == self._leader or self._has(pid) or self._has(parent):
                    held.signal(signal.SIGKILL)
            finally:
                held.close()

    def _has(self, pid: int) -> bool:
        if self._tmp is not None and self._tmp == _inode(Path(f"/proc/{pid}/root/tmp")):
            return True
        with contextlib.suppress(OSError):
            return self._variable in Path(f"/proc/{pid}/environ").read_bytes()
        return False


def _inode(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and session (proc(5)); the name before them may hold anything but `)`."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])
