"""Limits that the kernel enforces: a cgroup (v2) for each container that asks for cores or memory.

homeport uses the cgroup that `HOMEPORT_CGROUP` names; or its own, if that was delegated to it
(`systemd-run --user --scope -p Delegate=yes homeport up`); or the root, if nothing else manages cgroups. There
it makes one directory for this home, and in it one for each container. A cgroup with children may have no
processes (except the root), so other processes in it are moved into a leaf beside the home's directory.
Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst; systemd's CGROUP_DELEGATION.

`python -m homeport.node.limits.cgroups` prints which cgroup is used, for `homeport doctor`.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from homeport.contract.container import StartOrder
from homeport.contract.manifest import FunctionSpec
from homeport.contract.sizes import MIB

CONTROLLERS = ("cpu", "memory")
OFF = "off"
MOUNTS = Path("/proc/self/mountinfo")
SERVER = "server"  # the leaf for processes that were in a delegated cgroup before it had children
PERIOD_US = 100_000  # the period of `cpu.max`
WEIGHT = 100  # the `cpu.weight` of one core
MAX_WEIGHT = 10_000
TRIES = 5  # how often to try to empty a cgroup, because processes may fork meanwhile


class Unusable(Exception):
    """Why homeport may not use cgroups here"""


class Cgroups:
    """The cgroups of this node's containers, below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._shares: dict[str, tuple[int, int]] = {}  # container -> weight, protected bytes

    @staticmethod
    def open(chosen: str, name: str) -> "Cgroups":
        """Make the directory `name` below the cgroup that homeport may use; raises `Unusable`.

        `chosen` is a cgroup's directory, `off`, or empty: homeport's own cgroup.
        """
        base = _base(chosen)
        try:
            return Cgroups(_prepared(base, name))
        except OSError as error:
            raise Unusable(f"{base}: {error.strerror}") from None

    def make(self, order: StartOrder) -> str:
        """Make the container's cgroup and return its directory; empty if the container has no limits."""
        if order.function.cpu is None and order.function.memory_mib is None:
            return ""
        directory = self.root / order.id
        directory.mkdir(exist_ok=True)
        try:
            for name, value in settings(order.function).items():
                _write(directory / name, value)
        except OSError:
            removed(directory)
            raise
        self.count(order)
        return str(directory)

    def count(self, order: StartOrder) -> None:
        """Add a container to the weight of all containers together: see `shares`."""
        values = settings(order.function)
        weight, protected = values.get("cpu.weight", WEIGHT), values.get("memory.low", 0)
        self._shares[order.id] = int(weight), int(protected)
        self._weigh()

    def remove(self, directory: Path) -> bool:
        """Remove an ended container's cgroup and kill its processes; return False to try again later."""
        if not removed(directory):
            return False
        if self._shares.pop(directory.name, None):
            self._weigh()
        return True

    def all(self) -> list[Path]:
        """Return the directories of all containers."""
        return [directory for directory in self.root.iterdir() if directory.is_dir()]

    def close(self) -> None:
        """Remove the home's directory, unless there are containers."""
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def _weigh(self) -> None:
        for name, value in shares(self._shares.values()).items():
            with contextlib.suppress(OSError):
                _write(self.root / name, value)


def killed(directory: Path) -> bool:
    """Return whether the kernel killed a process of a cgroup because memory ran out."""
    with contextlib.suppress(OSError):
        for line in (directory / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count) > 0
    return False


def removed(directory: Path) -> bool:
    """Kill the processes of a cgroup and remove it; return whether that worked."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # a process that left its session, or that is ending
        with contextlib.suppress(OSError):
            _write(directory / "cgroup.kill", "1")
        return False
    return True


def settings(function: FunctionSpec) -> dict[str, str]:
    """PURE: return file -> content for the cgroup of a container of the function.

    Requests set its weight while the machine is busy; limits are never exceeded.
    """
    contents: dict[str, str] = {}
    if function.cpu is not None:
        request, limit = function.cpu
        contents["cpu.weight"] = str(max(1, min(round(request * WEIGHT), MAX_WEIGHT)))
        if limit is not None:
            contents["cpu.max"] = f"{max(1000, round(limit * PERIOD_US))} {PERIOD_US}"
    if function.memory_mib is not None:
        request_mib, limit_mib = function.memory_mib
        contents["memory.low"] = str(request_mib * MIB)
        if limit_mib is not None:
            contents["memory.max"] = str(limit_mib * MIB)
            contents["memory.swap.max"] = "0"
            contents["memory.oom.group"] = "1"  # kill all of the container or none of it
    return contents


def shares(containers: Iterable[tuple[int, int]]) -> dict[str, str]:
    """PURE: return file -> content for the directory of all containers, from their weights and bytes.

    A cgroup competes only with its siblings, and its protection is bounded by its parent's. Without this, all
    containers together would weigh as much as one process beside them, and no memory would be protected.
    """
    weights = list(containers)
    weight = sum(weight for weight, _ in weights) or WEIGHT
    return {
        "cpu.weight": str(min(weight, MAX_WEIGHT)),
        "memory.low": str(sum(protected for _, protected in weights)),
    }


def own() -> Path | None:
    """Return the directory of this process's cgroup; None without cgroup v2."""
    with contextlib.suppress(OSError):
        return located(Path("/proc/self/cgroup").read_text(), MOUNTS.read_text())
    return None


def located(cgroup: str, mountinfo: str) -> Path | None:
    """PURE: return a cgroup's directory, from two files of its process; None if it is not mounted.

    Only a part of the tree may be mounted, if homeport runs in a (Docker) container.
    """
    path = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::")), None)
    for line in mountinfo.splitlines():
        mount, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and path is not None and "/.." not in path:
            top, at = mount.split()[3:5]
            if Path(path).is_relative_to(top):
                return Path(at) / Path(path).relative_to(top)
    return None


def _base(chosen: str) -> Path:
    """Return the cgroup that homeport may use."""
    if chosen == OFF:
        raise Unusable("they are switched off")
    if chosen:
        return Path(chosen)
    own_cgroup = own()
    if own_cgroup is None:
        raise Unusable("there is no cgroup v2 with this process in it")
    # The root of all cgroups, or of the namespace of the (Docker) container that homeport runs in.
    top = located("0::/", MOUNTS.read_text())
    # An earlier server may have moved all processes into the leaf, this server's shell too.
    for base in (own_cgroup, own_cgroup.parent) if own_cgroup.name == SERVER else (own_cgroup,):
        if base == top or _is_delegated(base):
            return base
    raise Unusable(f"{own_cgroup} is not delegated")


def _prepared(base: Path, name: str) -> Path:
    file = base / "cgroup.controllers"
    if not file.exists():
        raise Unusable(f"{base} is not a cgroup v2")
    if missing := sorted({*CONTROLLERS} - {*file.read_text().split()}):
        raise Unusable(f"{base} does not have the controller {' and '.join(missing)}")
    _open_up(base)
    root = base / name
    root.mkdir(exist_ok=True)
    try:
        _hand_down(root)
        _try_to_join(root)
    except BaseException:
        with contextlib.suppress(OSError):  # the containers of an earlier server stay in it
            root.rmdir()
        raise
    return root


def _open_up(base: Path) -> None:
    """Enable the controllers for its children; move its own processes into a leaf if they prevent that."""
    for _ in range(TRIES):
        try:
            _hand_down(base)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        _make_empty(base)
    raise Unusable(f"{base} holds processes that cannot be moved")


def _hand_down(directory: Path) -> None:
    """Enable the controllers for its children; it must have no processes then, unless it is the root."""
    file = directory / "cgroup.subtree_control"
    if not {*CONTROLLERS} <= {*file.read_text().split()}:
        file.write_text(" ".join(f"+{controller}" for controller in CONTROLLERS))


def _make_empty(base: Path) -> None:
    leaf = base / SERVER
    leaf.mkdir(exist_ok=True)
    for pid in (base / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            _write(leaf / "cgroup.procs", pid)


def _try_to_join(root: Path) -> None:
    """Check that a process may move there: its user must own the target and the common ancestor."""
    probe = root / "probe"
    probe.mkdir(exist_ok=True)
    try:
        result = subprocess.run(
            ["/bin/sh", "-c", 'echo 0 > "$0"', probe / "cgroup.procs"],
            stderr=subprocess.DEVNULL,
            check=False,
        )
    finally:
        probe.rmdir()
    if result.returncode:
        raise Unusable(f"processes may not move from {own()} to {root}")


def _write(file: Path, text: str) -> None:
    """Write to a file if it exists; a cgroup forbids to create files."""
    with contextlib.suppress(FileNotFoundError):  # this kernel does not have the file
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _is_delegated(directory: Path) -> bool:
    """Return whether systemd has delegated the cgroup."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == b"1":
                return True
    return False


def _main() -> None:
    try:
        cgroups = Cgroups.open(sys.argv[1], "homeport-doctor")
    except Unusable as why:
        answer = {"used": False, "why": str(why)}
    else:
        cgroups.close()
        answer = {"used": True, "base": str(cgroups.root.parent)}
    print(json.dumps(answer))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    _main()
