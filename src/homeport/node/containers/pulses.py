"""Looks at the pulses of all containers once a second, and ends a container that is beyond help.

What a pulse is, contract/pulse.py says. It is a container's own word, so it can only harm the container.
A container is ended when

- a request inside should have ended more than 2 s ago: the runner keeps the function's `timeout` itself,
  unless it is stopped, or some C code holds the GIL, or the event loop stands still;
- it has given no sign of life for 10 s, or its loop has not turned: where nobody is inside with time
  left, and, if the process does use the CPU, for as long as the function's `timeout` too, for whoever has
  come meanwhile is lost then. A long import or `pickle.load` holds the GIL, and is no reason to die;
- it cannot accept connections for 5 s, as when it has no descriptors left: gently, for whoever is inside can
  still be answered.

Times are CLOCK_MONOTONIC, which stands still while the machine is suspended. Where this process itself was
late, so was everybody: what a container has missed until then is not held against it.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from homeport.contract.pulse import Reader, Reading

LOOK_S = 1.0
LATE_S = 2.0  # so late with a look, this machine has been elsewhere
SILENT_S = 10.0
OVERDUE_S = 2.0
REFUSED_S = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel says of a process."""

    stopped: bool
    cpu_ticks: int


class Patient:
    """One ready container: its pulse, and since when something is wrong."""

    def __init__(self, reader: Reader, pid: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.since = time.monotonic()  # what came before is not held against it
        self._reader = reader
        self._pid = pid
        self._silent: Usage | None = None  # as it was when its silence was first noticed
        self._refused_since: float | None = None
        self.can_finish = False  # it cannot let anybody in, and answers whoever is inside

    def look(self, now: float) -> str:
        """Why it has to end, in words; empty where it has not."""
        return self.judge(self._reader.read(), now, lambda: usage(self._pid))

    def judge(self, pulse: Reading, now: float, usage: Callable[[], Usage]) -> str:
        """The same of what was read. All times are seconds of one clock."""
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
        if max(silent_s, still_s) < SILENT_S:
            self._silent = None
            return ""
        used = usage()
        busy = self._silent is None or used.cpu_ticks != self._silent.cpu_ticks
        self._silent = self._silent or used
        if not used.stopped:
            if pulse.deadline > now:
                return ""  # whoever is inside has time left
            if busy and max(silent_s, still_s) < max(SILENT_S, self.timeout_s):
                return ""
        if silent_s < SILENT_S:
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
    """The pulse of a container that an earlier server started, of which its init keeps a copy.

    `OSError` or `ValueError` where there is none that can be read safely.
    """
    descriptor = os.open(f"/proc/{leader}/fd/3", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Reader(descriptor)
    finally:
        os.close(descriptor)


def usage(pid: int) -> Usage:
    """State and CPU time of a process, all its threads together (proc(5))."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return Usage(stopped=stat[0] == "T", cpu_ticks=int(stat[11]) + int(stat[12]))
    return Usage(stopped=False, cpu_ticks=0)


async def watch(
    patients: Callable[[], Iterable[tuple[str, Patient]]],
    kill: Callable[[str, str], None],
    replace: Callable[[str, str], None],
) -> None:
    """Look for ever; `kill` is told which container has to end, and why; `replace`: gently."""
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
