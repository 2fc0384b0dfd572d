"""What is written down of a container, so that a server that comes later can take it over or end it.

A process is known by its number, the machine's boot and its start in clock ticks since then (field 22 of
/proc/<pid>/stat): no step of the clock changes these, and no other process has them.
"""

import contextlib
import json
import logging
import os
import select
import shutil
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from homeport.contract import codec
from homeport.contract.container import Container, State
from homeport.node.containers import leftovers
from homeport.node.held import Held

BOOT = Path("/proc/sys/kernel/random/boot_id")
PATIENCE_S = 10.0  # init gives up after half of that

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """A container of an earlier server that still runs."""

    container: Container
    leader: int  # its init


def write(directory: Path, container: Container, leader: int) -> None:
    """Make it known. Where that fails what stood there stays, and nothing where its init has ended."""
    known = {
        "boot": BOOT.read_text().strip(),
        "init": leader,
        "ticks": _ticks(leader),
        "container": codec.encode(container),
    }
    fresh = directory / "record.new"
    try:
        fresh.write_text(json.dumps(known))
        fresh.replace(directory / "record")
    except OSError as error:
        log.warning("a later server could not take %s over: %s", container.spec.id, error)


def sweep(root: Path) -> Collection[Left]:
    """What an earlier server left: those that are ready go on, the others are ended."""
    ready = []
    for directory in root.iterdir():
        left = _left(directory / "record")
        if left is not None and left.container.state is State.READY:
            ready.append(left)
            continue
        if left is not None:
            _end(left, directory)
        leftovers.end(leftovers.NOBODY, directory / "tmp")
        shutil.rmtree(directory, ignore_errors=True)
    return ready


def _left(record: Path) -> Left | None:
    """A container that still runs; whoever else has its pid now is let be."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(record.read_text())
        container: Container = codec.decode(Container, known["container"])
        if known["boot"] == BOOT.read_text().strip() and known["ticks"] == _ticks(known["init"]):
            return Left(container, known["init"])
    return None


def _ticks(pid: int) -> int:
    """When a process began, in clock ticks since the boot; -1 of one that has ended."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        if state not in "ZX":
            return int(fields[18])
    return -1


def _end(left: Left, directory: Path) -> None:
    """Have its init end everything, by the end of its runner."""
    with contextlib.suppress(OSError):
        init = Held(left.leader, os.pidfd_open(left.leader))
        try:
            with contextlib.suppress(OSError):
                runner = Held.of(os.pidfd_open(left.container.pid), parent=left.leader)
                runner.signal(signal.SIGKILL)
                runner.close()
                select.select([init.pidfd], [], [], PATIENCE_S)
            init.signal(signal.SIGKILL)
            select.select([init.pidfd], [], [], PATIENCE_S)
        finally:
            init.close()
    leftovers.end(left.leader, directory / "tmp")


def in_words(code: int | None, memory_was_short: bool = False) -> str:
    """How a process ended, which was not killed by us."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name != "SIGKILL":
        return f"was killed by {name}"
    if memory_was_short:
        return (
            "was killed by SIGKILL, perhaps by the kernel: the machine ran out of memory meanwhile"
        )
    return "was killed by SIGKILL, by itself or by somebody on this machine"


def memory_shortages() -> int:
    """How many processes the kernel has killed for want of memory since the boot; -1 if it is not told.

    Those in cgroups with a limit count too (proc(5), /proc/vmstat).
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return -1
