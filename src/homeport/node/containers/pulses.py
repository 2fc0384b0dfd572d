"""Reads the pulses of all containers once a second, and ends containers that hang.

contract/pulse.py describes the pulse. The container writes it, so a wrong pulse only harms the container.
A container is ended if

- a request inside should have ended more than 2 s ago: the runner enforces the function's `timeout` itself,
  unless it is stopped, C code holds the GIL, or the event loop stands still;
- it has given no sign of life for 10 s (15 s without a request inside), or its loop has not turned, and no
  request inside has time left. If the process uses the CPU, it also gets the function's `timeout`: a long
  import or `pickle.load` holds the GIL, and is no reason to end it. Requests that came after that time would be lost anyway;
- it cannot accept connections for 5 s, for example without free descriptors: then it is ended gently, because
  the requests inside can still be answered.

Times are CLOCK_MONOTONIC, which stands still while the machine is suspended. If this process itself was late,
all processes may have been: then the containers get the lost time back.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from homeport.contract.dataclass import dataclass
from homeport.contract.pulse import Reader, Reading

LOOK_S = 1.0
HELD_S = 0.05  # between two looks at the slots that a container holds
LATE_S = 2.0  # if a check is later than this, the whole machine was stopped or overloaded
SILENT_S = 10.0
IDLE_SILENT_S = 15.0  # without a request inside, a container beats less often
OVERDUE_S = 2.0
REFUSED_S = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """A process's state and CPU time, from the kernel."""

    stopped: bool
    cpu_ticks: int


class Patient:
    """One ready container: its pulse, and since when something is wrong."""

    def __init__(self, reader: Reader, pid: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.since = time.monotonic()  # earlier times do not count
        self._reader = reader
        self._pid = pid
        self._silent: Usage | None = None  # its usage when its silence was first noticed
        self._refused_since: float | None = None
        self.can_finish = False  # True if it cannot accept connections, but can finish its requests

    def look(self, now: float) -> str:
        """Return why the container must end, in words; empty if it need not."""
        # Nearly always, and with a thousand containers a thousand times a second.
        if self._reader.is_well(now - SILENT_S):
            self._silent = self._refused_since = None
            return ""
        return self.judge(self._reader.read(), now, lambda: usage(self._pid))

    def judge(self, pulse: Reading, now: float, usage: Callable[[], Usage]) -> str:
        """Return the same for a pulse that was read. All times are seconds of one clock."""
        if pulse.deadline and now - max(pulse.deadline, self.since) > OVERDUE_S:
            return (
                f"a request took longer than its timeout of {self.timeout_s:g} s, and the container "
                "did not end it"
            )
        if refused := self._cannot_accept(pulse, now):
            self.can_finish = True
            return refused
        silent_s = now - max(pulse.beat, self.since)
        still_s = now - max(pulse.turn, self.since)
        limit_s = SILENT_S if pulse.inside else IDLE_SILENT_S
        if max(silent_s, still_s) < limit_s:
            self._silent = None
            return ""
        used = usage()
        busy = self._silent is None or used.cpu_ticks != self._silent.cpu_ticks
        self._silent = self._silent or used
        if not used.stopped:
            if pulse.deadline > now:
                return ""  # a request inside has time left
            if busy and max(silent_s, still_s) < max(limit_s, self.timeout_s):
                return ""
        if silent_s < limit_s:
            return f"its event loop stood still for {still_s:.0f} s"
        how = "it was stopped" if used.stopped else "did C code hold the GIL?"
        return f"it gave no sign of life for {silent_s:.0f} s ({how})"

    def _cannot_accept(self, pulse: Reading, now: float) -> str:
        if not pulse.refused:
            self._refused_since = None
            return ""
        if self._refused_since is None:
            self._refused_since = now
        if now - max(self._refused_since, self.since) < REFUSED_S:
            return ""
        name = errno.errorcode.get(pulse.refused, "an unknown error")
        return f"it could not accept connections for {REFUSED_S:g} s ({name})"


def of_init(leader: int) -> Reader:
    """Open the pulse of a container that an earlier server started; its init keeps a copy.

    `OSError` or `ValueError` if there is none that can be read safely.
    """
    descriptor = os.open(f"/proc/{leader}/fd/3", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Reader(descriptor)
    finally:
        os.close(descriptor)


async def follow_held(pulse: Reader, holds: Callable[[int], None]) -> NoReturn:
    """Call `holds` with the number of slots that a container holds, again and again.

    For a container that was taken over: an earlier server had its report, which says so at once.
    """
    while True:
        await asyncio.sleep(HELD_S)
        holds(pulse.read().held)


def usage(pid: int) -> Usage:
    """Return the state and CPU time of a process, all threads together (proc(5))."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return Usage(stopped=stat[0] == "T", cpu_ticks=int(stat[11]) + int(stat[12]))
    return Usage(stopped=False, cpu_ticks=0)


async def watch(
    patients: Callable[[], Iterable[tuple[str, Patient]]],
    kill: Callable[[str, str], None],
    replace: Callable[[str, str], None],
) -> None:
    """Check forever; call `kill` with a container that must end and why, or `replace` to end it gently."""
    looked = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_S)
        now = time.monotonic()
        late = now - looked > LOOK_S + LATE_S
        looked = now
        for name, patient in list(patients()):
            if late:
                patient.since = now
            elif why := patient.look(now):
                (replace if patient.can_finish else kill)(name, why)
