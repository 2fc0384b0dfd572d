"""Measures what containers use: by the kernel's own count where a container has a cgroup, else by its processes.

The memory of processes is their own and their share of shared memory (PSS, proc(5)), which takes 0.2 to 3 ms to read: it
is read again when the process's resident memory has changed, and else after a minute, then after twice as long each time,
at most 16 minutes. A look reads few processes, those first of which least is known: until its turn a new process counts with
the part of its resident memory that the others have on average as theirs, and one that has changed with the change added.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from homeport.contract.capacity import Usage
from homeport.contract.container import Launch
from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.node.limits import gpus, watchdog

TICKS = os.sysconf("SC_CLK_TCK")
SHARE_S, LONGEST_SHARE_S = 60.0, 960.0
CHANGE = 0.02  # of the resident memory
MOST_READ = 10  # in one look; of very many processes one in 20
MANY = 20
#: Of /proc/<pid>/stat, after the name: proc(5) counts from 1, and the name is the second.
PARENT, CPU, STARTED, RESIDENT = 1, slice(11, 15), 19, 21


@dataclass(frozen=True, slots=True)
class Process:
    """The resources that one process uses."""

    parent: int
    cpu_s: float  # its own, and that of its children that have ended
    started: str
    resident_mib: float


@dataclass(frozen=True, slots=True)
class _Share:
    """A process's share of memory, as it was read last."""

    again_at: float
    wait_s: float
    resident_mib: float
    share_mib: float


class Meter:
    """Measures containers again and again."""

    def __init__(
        self,
        gpu_memory_mib: Callable[[Collection[str]], Mapping[str, int]] = gpus.used_mib,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpu_memory_mib = gpu_memory_mib
        self._clock = clock
        #: By process and its start.
        self._shares: dict[tuple[int, str], _Share] = {}
        self._part = 1.0  # of the resident memory of all of them

    def look(self, containers: Iterable[tuple[int, Launch]]) -> dict[str, Usage]:
        """Return the resources that these containers use, by their ids; each is given with its first process. It
        blocks.
        """
        running = list(containers)
        by_processes = [leader for leader, launch in running if not launch.cgroup]
        processes_by_pid = processes() if by_processes else {}
        trees = descendants(processes_by_pid, by_processes)
        self._forget(processes_by_pid)
        self._read({pid: processes_by_pid[pid] for tree in trees.values() for pid in tree})
        devices = {device for _, launch in running for device in launch.order.devices}
        on_gpus = self._gpu_memory_mib(devices) if devices else {}
        usages = {}
        for leader, launch in running:
            if launch.cgroup:
                used = of_cgroup(Path(launch.cgroup))
            elif leader in processes_by_pid:
                used = self._of_processes({pid: processes_by_pid[pid] for pid in trees[leader]})
            else:
                used = None
            if used is not None:
                gpu_mib = sum(on_gpus.get(device, 0) for device in launch.order.devices)
                cpu_s, memory_mib = used
                usages[launch.id] = Usage(
                    cpu_s=round(cpu_s, 3), memory_mib=round(memory_mib), gpu_memory_mib=gpu_mib
                )
        return usages

    def _of_processes(self, of_one: Mapping[int, Process]) -> tuple[float, float]:
        cpu_s = sum(process.cpu_s for process in of_one.values())
        return cpu_s, sum(self._share_mib(pid, process) for pid, process in of_one.items())

    def _share_mib(self, pid: int, process: Process) -> float:
        """Return the process's share as it was read, or an estimate until that is its turn."""
        share = self._shares.get((pid, process.started))
        if share is None:
            return process.resident_mib * self._part
        return max(share.share_mib + process.resident_mib - share.resident_mib, 0.0)

    def _read(self, there: Mapping[int, Process]) -> None:
        """Read the shares of a few of these processes: those of which least is known."""
        now = self._clock()
        unknown: dict[int, int] = {}  # the power of two of the MiB
        for pid, process in there.items():
            share = self._shares.get((pid, process.started))
            if share is None:
                unknown[pid] = int(process.resident_mib).bit_length()
            elif _has_changed(process, share) or now >= share.again_at:
                unknown[pid] = int(abs(process.resident_mib - share.resident_mib)).bit_length()
        most = max(MOST_READ, len(there) // MANY)
        # One container after the other, where they are about as large: its processes have different parts.
        for pid in sorted(unknown, key=lambda pid: -unknown[pid])[:most]:
            self._read_one(pid, there[pid], now)
        resident_mib = sum(share.resident_mib for share in self._shares.values())
        share_mib = sum(share.share_mib for share in self._shares.values())
        self._part = share_mib / resident_mib if resident_mib else 1.0

    def _read_one(self, pid: int, process: Process, now: float) -> None:
        key = pid, process.started
        share = self._shares.get(key)
        if share is None or _has_changed(process, share):
            wait_s = SHARE_S
        else:
            wait_s = min(2 * share.wait_s, LONGEST_SHARE_S)
        # A kernel without this file, or a process that may not be looked at, has 0.
        share_mib = watchdog.share_mib(pid) or process.resident_mib
        self._shares[key] = _Share(now + wait_s, wait_s, process.resident_mib, share_mib)

    def _forget(self, there: Mapping[int, Process]) -> None:
        for key in list(self._shares):
            pid, started = key
            if pid not in there or there[pid].started != started:
                del self._shares[key]


def _has_changed(process: Process, share: _Share) -> bool:
    return abs(process.resident_mib - share.resident_mib) > CHANGE * share.resident_mib


def processes() -> dict[int, Process]:
    """Return every process of the machine that this one may see."""
    processes_by_pid = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a path for each process would take half of the time
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
                processes_by_pid[int(name)] = parsed(_text(f"/proc/{name}/stat"))
    return processes_by_pid


def _text(path: str) -> str:
    """Return what a file of /proc says, if that is short."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def parsed(stat: str) -> Process:
    """PURE: return the fields of a process's `stat`. Its name may contain blanks and brackets.

    >>> parsed("7 (a) b) S 1 7 7 0 -1 4 9 0 0 0 100 50 25 25 20 0 1 0 4711 1000 256 0").parent
    1
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(
        parent=int(fields[PARENT]),
        cpu_s=sum(map(int, fields[CPU])) / TICKS,
        started=fields[STARTED],
        resident_mib=int(fields[RESIDENT]) * watchdog.PAGE / MIB,
    )


def descendants(
    processes_by_pid: Mapping[int, Process], leaders: Iterable[int]
) -> dict[int, set[int]]:
    """PURE: return each leader with all processes below it. No process can leave its tree: the leader is their init."""
    children: dict[int, list[int]] = {}
    for pid, process in processes_by_pid.items():
        children.setdefault(process.parent, []).append(pid)
    trees: dict[int, set[int]] = {}
    for leader in leaders:
        members = {leader} if leader in processes_by_pid else set()
        todo = list(members)
        while todo:
            for child in children.get(todo.pop(), ()):
                if child not in members:
                    members.add(child)
                    todo.append(child)
        trees[leader] = members
    return trees


def of_cgroup(directory: Path) -> tuple[float, float] | None:
    """Return the seconds and the MiB of a cgroup, without the files that the kernel could drop; None if the cgroup
    is removed.
    """
    try:
        cpu = _fields(directory / "cpu.stat")["usage_usec"] / 1_000_000
        used = int((directory / "memory.current").read_text())
        return cpu, max(used - _fields(directory / "memory.stat").get("inactive_file", 0), 0) / MIB
    except (OSError, ValueError, KeyError):
        return None


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
