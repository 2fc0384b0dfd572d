"""Limits for a step of an image, watched from outside its cell: time, memory, and room on the disk.

The number of its processes is bounded by the cell itself. If memory runs out before that is seen, the kernel ends
the step first, and not the server (`oom_score_adj`).
"""

import asyncio
import os
import time
from pathlib import Path

import psutil

from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.node.limits import watchdog

LOOK_EVERY_S = 0.5
LONGEST_S = 6 * 3600.0  # compiling a large package on a small machine takes hours
SHARE_OF_MEMORY = 0.75
FREE_MIB = 1024  # that stay free on the disk, or a twentieth of it, or half of what is free now


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one step."""

    seconds: float
    memory_mib: int
    free_mib: int | None = None  # on the disk, at least; None: see `FREE_MIB`


def usual() -> Bounds:
    """Return the limits of this machine."""
    total = psutil.virtual_memory().total // MIB
    return Bounds(seconds=LONGEST_S, memory_mib=int(total * SHARE_OF_MEMORY))


async def exceeded(leader: int, directory: Path, bounds: Bounds) -> str:
    """Wait until a step exceeds a limit; return which one, as text.

    `leader` is the first process of the step's session, and what it writes is on the disk of `directory`.
    """
    begin_s, left_mib = time.monotonic(), bounds.free_mib or _free_mib(directory)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if time.monotonic() - begin_s > bounds.seconds:
            return f"it took longer than {bounds.seconds:g} s"
        if reason := await asyncio.to_thread(_over, leader, directory, bounds.memory_mib, left_mib):
            return reason


def _over(leader: int, directory: Path, memory_mib: int, free_mib: int) -> str:
    members = watchdog.sessions([leader])[leader]
    used_mib = watchdog.memory_mib(members, memory_mib)
    if used_mib > memory_mib:
        return f"it used {used_mib:.0f} MiB of memory, and a step may use {memory_mib} MiB here"
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize < free_mib * MIB:
        return f"it has filled the disk, of which {free_mib} MiB must stay free"
    return ""


def _free_mib(directory: Path) -> int:
    room = os.statvfs(directory)
    free, total = (blocks * room.f_frsize // MIB for blocks in (room.f_bavail, room.f_blocks))
    return min(FREE_MIB, total // 20, free // 2)
