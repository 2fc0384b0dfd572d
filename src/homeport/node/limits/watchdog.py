"""Measures what containers use, and finds those over a limit, where the kernel does not enforce limits.

Memory is the processes' own memory and their share of shared memory (PSS, proc(5)); disk is the size of the
container's temporary directory.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from homeport.cell import storage
from homeport.contract.container import Launch
from homeport.contract.sizes import MIB

PAGE = os.sysconf("SC_PAGE_SIZE")


def watched(launch: Launch) -> bool:
    """Return whether the container has a limit that the kernel does not enforce."""
    return _memory_limit_mib(launch) is not None or launch.function.ephemeral_disk_mib is not None


def over(launch: Launch, memory_mib: float, disk_mib: float) -> str:
    """PURE: return the limit that is exceeded, as text; empty if none is."""
    limit_mib = _memory_limit_mib(launch)
    if limit_mib is not None and memory_mib > limit_mib:
        return f"it used {memory_mib:.0f} MiB of memory, and its limit is {limit_mib} MiB"
    limit_mib = launch.function.ephemeral_disk_mib
    if limit_mib is not None and disk_mib > limit_mib:
        return f"it used {disk_mib:.0f} MiB of temporary disk, and its limit is {limit_mib} MiB"
    return ""


def look(
    containers: Iterable[tuple[int, Launch]], disk_mib: "Callable[[str], float] | None" = None
) -> dict[str, str]:
    """Return which containers are over a limit, by id, and which limit; each comes with its leader's pid.

    `disk_mib` measures a directory that this process may not read: a cell's.
    """
    measured = disk_mib or _disk_mib
    running = list(containers)
    members = sessions([pid for pid, _ in running])
    reasons: dict[str, str] = {}
    for pid, launch in running:
        limit_mib = _memory_limit_mib(launch)
        used_mib = memory_mib(members[pid], limit_mib) if limit_mib is not None else 0.0
        has_disk_limit = launch.function.ephemeral_disk_mib is not None
        written_mib = measured(launch.tmp_dir) if has_disk_limit else 0.0
        if reason := over(launch, used_mib, written_mib):
            reasons[launch.id] = reason
    return reasons


def sessions(leaders: Sequence[int]) -> dict[int, list[int]]:
    """Return the processes of several leaders, in one pass over all processes."""
    members: dict[int, set[int]] = {leader: set() for leader in leaders}
    children: dict[int, list[int]] = {}
    for pid in psutil.pids() if any(leaders) else ():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            children.setdefault(psutil.Process(pid).ppid(), []).append(pid)
            if (leader := os.getsid(pid)) and leader in members:
                members[leader].add(pid)
    for pids_of_leader in members.values():
        todo = list(pids_of_leader)
        while todo:
            for child in children.get(todo.pop(), ()):
                if child not in pids_of_leader:  # the process has made its own session
                    pids_of_leader.add(child)
                    todo.append(child)
    return {leader: sorted(pids_of_one) for leader, pids_of_one in members.items()}


def _memory_limit_mib(launch: Launch) -> int | None:
    memory_mib = launch.function.memory_mib
    return None if launch.cgroup or memory_mib is None else memory_mib[1]


def memory_mib(pids: Sequence[int], limit_mib: int) -> float:
    """Return the memory of some processes, exactly only if it may be over the limit."""
    # RSS >= PSS and is 100x cheaper to read, so read PSS only if RSS is over the limit.
    resident = sum(_resident_mib(pid) for pid in pids)
    return resident if resident <= limit_mib else sum(share_mib(pid) for pid in pids)


def _resident_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MIB
    return 0.0


def share_mib(pid: int) -> float:
    """Return a process's own memory and its share of shared memory; 0 if it cannot be read."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _disk_mib(directory: str) -> float:
    return storage.measured(directory) / MIB
