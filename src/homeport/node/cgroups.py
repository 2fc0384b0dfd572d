"""Limits that the kernel keeps: a cgroup (v2) for each container that asks for cores or memory.

Used where homeport may: in the cgroup that `HOMEPORT_CGROUP` names, in its own where that was delegated
to it (`systemd-run --user --scope -p Delegate=yes homeport up`), or at the root where nothing else
manages cgroups. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, and systemd's
CGROUP_DELEGATION for who may write where.

`python -m homeport.node.cgroups` says what is used here, for `homeport doctor`.
"""

import contextlib
import errno
import json
import logging
import os
import sys
from pathlib import Path

from homeport.contract.container import ContainerSpec

CONTROLLERS = ("cpu", "memory")
OFF = "off"
SERVER = "server"  # where those go that were in a delegated cgroup before it had children
MIB = 1024**2
PERIOD_US = 100_000  # of `cpu.max`
WEIGHT = 100  # `cpu.weight` of one core
MAX_WEIGHT = 10_000

log = logging.getLogger(__name__)


class Cgroups:
    """The cgroups of this node's containers, below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._leaving: set[str] = set()

    @staticmethod
    def open(chosen: str, name: str) -> "Cgroups | None":
        """The directory `name` below the cgroup that homeport may use; None where there is none.

        `chosen` is a cgroup's directory, `off`, or empty: its own.
        """
        if chosen == OFF:
            return None
        base = Path(chosen) if chosen else own()
        if base is None or not (chosen or _is_delegated(base) or _is_top(base)):
            return None
        try:
            return _prepared(base, name)
        except OSError as error:
            log.info("no limits by cgroups: %s: %s", base, error.strerror)
            return None

    def make(self, spec: ContainerSpec) -> str:
        """The container's cgroup, for it to join; empty where it asks for nothing."""
        self._tidy()
        if spec.cpu is None and spec.memory_mib is None:
            return ""
        directory = self.root / spec.id
        directory.mkdir(exist_ok=True)
        for name, value in settings(spec).items():
            with contextlib.suppress(FileNotFoundError):  # a kernel that has not got it
                (directory / name).write_text(value)
        return str(directory)

    def killed(self, container: str) -> bool:
        """Whether the kernel killed something in it for want of memory."""
        with contextlib.suppress(OSError):
            for line in (self.root / container / "memory.events").read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count) > 0
        return False

    def remove(self, container: str) -> None:
        """Let it go, at the latest when the last of its processes has been reaped."""
        if (self.root / container).is_dir():
            self._leaving.add(container)
            self._tidy()

    def keep(self, containers: set[str]) -> None:
        """Let those of every other container go: an earlier server has left them."""
        for directory in self.root.iterdir():
            if directory.is_dir() and directory.name not in containers:
                self._leaving.add(directory.name)
        self._tidy()

    def _tidy(self) -> None:
        for name in list(self._leaving):
            try:
                (self.root / name).rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # somebody is still inside
                continue
            self._leaving.discard(name)


def settings(spec: ContainerSpec) -> dict[str, str]:
    """PURE: file -> content of the container's cgroup.

    What it asks for weighs when the machine is busy; what it may have at most is never exceeded.
    """
    told: dict[str, str] = {}
    if spec.cpu is not None:
        request, limit = spec.cpu
        told["cpu.weight"] = str(max(1, min(round(request * WEIGHT), MAX_WEIGHT)))
        if limit is not None:
            told["cpu.max"] = f"{max(1000, round(limit * PERIOD_US))} {PERIOD_US}"
    if spec.memory_mib is not None:
        request_mib, limit_mib = spec.memory_mib
        told["memory.low"] = str(request_mib * MIB)
        if limit_mib is not None:
            told["memory.max"] = str(limit_mib * MIB)
            told["memory.swap.max"] = "0"
            told["memory.oom.group"] = "1"  # half a container is no container
    return told


def own() -> Path | None:
    """The directory of this process's cgroup; None without cgroup v2."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), None)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 ") and path is not None:
                return Path(mount.split()[4]) / path.lstrip("/")
    return None


def _prepared(base: Path, name: str) -> Cgroups | None:
    there = (base / "cgroup.controllers").read_text().split()
    if not set(CONTROLLERS) <= set(there):
        log.info("no limits by cgroups: %s has not got %s", base, " and ".join(CONTROLLERS))
        return None
    try:
        _hand_down(base)
    except OSError as error:
        if error.errno != errno.EBUSY or not _is_delegated(base):
            raise
        _make_empty(base)
        _hand_down(base)
    root = base / name
    root.mkdir(exist_ok=True)
    _hand_down(root)
    return Cgroups(root)


def _hand_down(directory: Path) -> None:
    """Give the controllers to its children; it may hold no process then, unless it is the root."""
    words = " ".join(f"+{controller}" for controller in CONTROLLERS)
    (directory / "cgroup.subtree_control").write_text(words)


def _make_empty(base: Path) -> None:
    leaf = base / SERVER
    leaf.mkdir(exist_ok=True)
    for pid in (base / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (leaf / "cgroup.procs").write_text(pid)


def _is_delegated(directory: Path) -> bool:
    """Whether systemd has said that what is below belongs to whoever runs there."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == b"1":
                return True
    return False


def _is_top(directory: Path) -> bool:
    """Whether it is the root of all cgroups: the only one that has no type."""
    return (directory / "cgroup.controllers").exists() and not (directory / "cgroup.type").exists()


def _main() -> None:
    chosen = sys.argv[1]
    base = Path(chosen) if chosen and chosen != OFF else own()
    found = Cgroups.open(chosen, "homeport-doctor")
    if found is not None:
        found.root.rmdir()
    print(json.dumps({"used": found is not None, "base": str(base or "")}))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    _main()
