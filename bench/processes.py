"""Whole process trees: their CPU time and memory from /proc, and their end.

The benchmark adopts every orphan among its descendants (man 2 prctl, PR_SET_CHILD_SUBREAPER), so
that a server which detaches itself is still found, counted, and ended.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
MIB = 2**20
GRACE_S = 10.0

Label = Callable[[psutil.Process], str]


def adopt_orphans() -> None:
    """From now on every descendant stays one."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree(*roots: int) -> list[psutil.Process]:
    """The roots and all below them, each once."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            found |= {process.pid: process for process in (root, *root.children(recursive=True))}
    return list(found.values())


def words(process: psutil.Process) -> str:
    """Its command line; empty once it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()) or process.name()
    return ""


def cpu_s(process: psutil.Process) -> float:
    """User and system time so far; 0 once it has ended."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


class Cpu:
    """CPU time by label since a moment; a process that ends meanwhile is not counted."""

    def __init__(self, roots: Iterable[int], label: Label) -> None:
        self._roots, self._label = list(roots), label
        self._before = {process: cpu_s(process) for process in tree(*self._roots)}

    def seconds(self) -> dict[str, float]:
        """By label, since this was made."""
        spent: dict[str, float] = {}
        for process in tree(*self._roots):
            took = cpu_s(process) - self._before.get(process, 0.0)
            if took > 0:
                label = self._label(process)
                spent[label] = spent.get(label, 0.0) + took
        return spent


class Peak:
    """How much more memory a tree held at its highest than when this was made."""

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = list(roots)
        self._before: dict[psutil.Process, int] = {}
        for process in tree(*self._roots):
            with contextlib.suppress(OSError):
                # man 5 proc: resets the peak (VmHWM) to what is held now
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")
                self._before[process] = _field(process.pid, "status", "VmHWM")

    def mib(self) -> float:
        """The sum of what each process grew by at its highest; at least 0."""
        grown = 0
        for process in tree(*self._roots):
            with contextlib.suppress(OSError):
                peak = _field(process.pid, "status", "VmHWM")
                grown += max(0, peak - self._before.get(process, 0))
        return grown / MIB


def uss_mib(processes: Iterable[psutil.Process]) -> float:
    """Private memory: what would be free if they ended."""
    return _rollup(processes, "Private_Clean", "Private_Dirty")


def pss_mib(processes: Iterable[psutil.Process]) -> float:
    """Memory with each shared page divided among those that share it."""
    return _rollup(processes, "Pss")


def end(*roots: int) -> None:
    """Ask a tree to end, and kill what stays."""
    going = tree(*roots)
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).send_signal(signal.SIGINT)
    _gone, left = psutil.wait_procs(going, GRACE_S)
    kill(left)


def end_all() -> None:
    """Kill every descendant of this process; nothing is left behind."""
    for _ in range(5):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        kill(left)


def kill(processes: Iterable[psutil.Process]) -> None:
    """At once, and wait for them."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, GRACE_S)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # orphans that we have adopted
            pass


def _rollup(processes: Iterable[psutil.Process], *names: str) -> float:
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            total += sum(_field(process.pid, "smaps_rollup", name) for name in names)
    return total / MIB


def _field(pid: int, file: str, name: str) -> int:
    """Bytes of one line of a file in /proc; 0 where it has none, as a zombie's."""
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
