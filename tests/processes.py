"""Questions about processes that may end at any moment, also between two questions about one.

A process that has ended may stay as a zombie until its parent takes note: pid 1, for what a container has left.
`psutil.pid_exists` is true of it, and most other questions fail. `tests/house/test_processes.py` says where to ask.
"""

import contextlib
import os
import re
from pathlib import Path

import psutil

from tests.waiting import wait_for

PATIENCE_S = 30.0


def lives(process: int | psutil.Process) -> bool:
    """Return whether a process runs, given by its id or by what `psutil` knows of it: then a reused id is another."""
    try:
        known = process if isinstance(process, psutil.Process) else psutil.Process(process)
        return known.is_running() and known.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def living(*pids: int) -> list[psutil.Process]:
    """Return those processes that still run some seconds later; wait until then for all of them to end."""
    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return [each for each in psutil.wait_procs(processes, timeout=PATIENCE_S)[1] if lives(each)]


def with_word(word: str) -> list[psutil.Process]:
    """Return the processes that have this word in their command line."""
    return [p for p in psutil.process_iter(["cmdline"]) if word in (p.info["cmdline"] or ())]


def of_home(home: Path, command: str = "") -> list[psutil.Process]:
    """Return the processes that have this path in their environment, command line or working directory, but this one.

    With `command`, return only those that have this text in their command line.
    """
    named = re.compile(
        rf"{re.escape(str(home))}(?![\w.-])"
    )  # the home of `test_a1` is not that of `test_a10`
    processes = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            texts = [*process.environ().values(), *words, process.cwd()]
        except (psutil.Error, OSError):
            continue
        if any(map(named.search, texts)) and command in " ".join(words):
            processes.append(process)
    return [process for process in processes if process.pid != os.getpid()]


def end_of(home: Path) -> None:
    """Kill the processes of a home, also those that others of them start meanwhile, and wait for their end."""

    def none_left() -> bool:
        ending = of_home(home)
        for process in ending:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return not ending

    wait_for(none_left, f"the end of the processes of {home}")
