"""Enforces the containers' limits: by cgroups if homeport may use them, else by the watchdog."""

import asyncio
import contextlib
import dataclasses
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from homeport.contract.container import Launch, StartOrder
from homeport.node.limits import cgroups, watchdog
from homeport.node.limits.cgroups import Cgroups, Unusable
from homeport.supervised import supervised

LOOK_S = 0.25
CLOSE_S = 2.0  # how long the kernel may take to end the last processes
PAUSE_S = 0.01

Running = Callable[[], Iterable[tuple[int, Launch]]]
Kill = Callable[[str, str], None]

log = logging.getLogger(__name__)


class Limits:
    """The limits of this node's containers."""

    def __init__(self) -> None:
        #: How much a container has written, if its files belong to ids that only a cell has.
        self.disk_mib: Callable[[str], float] | None = None
        self._cgroups: Cgroups | None = None
        self._leaving: set[Path] = set()  # cgroups of containers that have ended
        self._watcher: asyncio.Task[None] | None = None
        self._has_work = asyncio.Event()  # set while there are containers or cgroups to watch

    def open(
        self, chosen: str, name: str, taken_over: Collection[Launch], running: Running, kill: Kill
    ) -> None:
        """Start; `taken_over` are the containers that were taken over from an earlier server.

        `running` returns the containers to watch; `kill` is called with a container that is over a limit,
        and the reason.
        """
        try:
            self._cgroups = Cgroups.open(chosen, name)
        except Unusable as why:
            level = logging.WARNING if chosen not in {"", cgroups.OFF} else logging.INFO
            log.log(level, "homeport watches the limits, because the kernel cannot: %s", why)
        else:
            for launch in taken_over:
                if launch.cgroup:
                    self._cgroups.count(launch.order)
            known_ids = {launch.id for launch in taken_over}
            self._leaving = {
                directory for directory in self._cgroups.all() if directory.name not in known_ids
            }
            self._has_work.set()
        watched = supervised("limits", lambda: self._watch(running, kill))
        self._watcher = asyncio.create_task(watched, name="limits")

    async def close(self) -> None:
        """Stop watching, and remove the cgroups."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        if self._cgroups is not None:
            self._leaving |= {*self._cgroups.all()}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._tidy():
                    await asyncio.sleep(PAUSE_S)
        if self._cgroups is not None:
            self._cgroups.close()

    def confined(self, launch: Launch, running: Iterable[Launch]) -> Launch:
        """Return the launch with the container's cgroup or cores."""
        launch = dataclasses.replace(launch, cgroup=self._make(launch.order))
        cpu = launch.function.cpu
        if not launch.cgroup and cpu is not None and cpu[1] is not None:
            uses = Counter(core for launched in running for core in launched.cores)
            available = sorted(os.sched_getaffinity(0))
            launch = dataclasses.replace(launch, cores=cores(cpu[1], available, uses))
        self.watch(launch)
        return launch

    def watch(self, launch: Launch) -> None:
        """Watch a container that runs or is about to start."""
        if watchdog.watched(launch):
            self._has_work.set()

    def broken(self, launch: Launch) -> str:
        """Return the limit for which the kernel has killed the container, as text; empty if it has not."""
        if not launch.cgroup or not cgroups.killed(Path(launch.cgroup)):
            return ""
        memory_mib = launch.function.memory_mib
        limit_mib = memory_mib[1] if memory_mib else None
        return f"it needed more memory than its limit of {limit_mib} MiB" if limit_mib else ""

    def release(self, launch: Launch) -> None:
        """Kill the processes that are left in the cgroup of an ended container, and remove the cgroup."""
        if launch.cgroup:
            self._leaving.add(Path(launch.cgroup))
            self._has_work.set()

    def _make(self, order: StartOrder) -> str:
        """Make the container's cgroup and return its directory; empty if it has none."""
        if self._cgroups is None:
            return ""
        try:
            return self._cgroups.make(order)
        except OSError as error:
            log.warning("%s has no cgroup and is watched: %s", order.id, error)
            return ""

    def _tidy(self) -> bool:
        """Remove cgroups of ended containers; return whether any is left."""
        remove = cgroups.removed if self._cgroups is None else self._cgroups.remove
        self._leaving = {directory for directory in self._leaving if not remove(directory)}
        return bool(self._leaving)

    async def _watch(self, running: Running, kill: Kill) -> None:
        while True:
            await self._has_work.wait()
            watched = [(pid, launch) for pid, launch in running() if watchdog.watched(launch)]
            if not self._tidy() and not watched:
                self._has_work.clear()
                continue
            for container, reason in (
                await asyncio.to_thread(watchdog.look, watched, self.disk_mib)
            ).items():
                kill(container, reason)
            await asyncio.sleep(LOOK_S)


def cores(limit: float, available: list[int], uses: Counter[int]) -> tuple[int, ...]:
    """PURE: return the least used cores, as many as the limit allows; empty if the limit allows all of them.

    >>> cores(1.5, [0, 1, 2, 3], Counter({0: 2, 2: 1}))
    (1, 3)
    >>> cores(2, [0, 1], Counter())
    ()
    """
    count = max(1, math.ceil(limit))
    if count >= len(available):
        return ()
    return tuple(sorted(sorted(available, key=lambda core: uses[core])[:count]))
