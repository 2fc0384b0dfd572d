"""The container's other processes: all descendants of its init but the runner, which calls this."""

import contextlib
import os
import signal
import time

from homeport.runner.init import NAME

PAUSE_S = 0.002
END_S = 5.0  # how long killed processes may take to end


def others() -> "list[int]":
    """Return the pids of the container's other running processes.

    A process whose parent has ended is a child of init, so it counts too. Without init there are none: the parent is
    a process of the machine then.
    """
    init, runner = os.getppid(), os.getpid()
    if not _is_init(init):
        return []
    children: dict[int, list[int]] = {}
    ended = set()
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes ten times as long
        if not name.isdigit():
            continue
        # It may end meanwhile. State and parent come after the name, which may have any characters.
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                state, parent = file.read().rpartition(")")[2].split()[:2]
            children.setdefault(int(parent), []).append(int(name))
            if state in "ZX":
                ended.add(int(name))
    family, todo = set(), [init]
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in family:
                family.add(child)
                todo.append(child)
    return sorted(family - ended - {runner})


def _is_init(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:  # noqa: PTH123
        return file.read().rstrip() == NAME
    return False


def send(number: signal.Signals) -> None:
    """Send a signal to each of the other processes."""
    for pid in others():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end() -> None:
    """Kill the other processes, and wait until they have ended. Blocks.

    Again and again, because a process may fork while the list is made, and the children of one that was killed are
    init's then.
    """
    deadline = time.monotonic() + END_S
    while others() and time.monotonic() < deadline:
        send(signal.SIGKILL)
        reap()
        time.sleep(PAUSE_S)


def reap() -> None:
    """Reap the runner's own children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
