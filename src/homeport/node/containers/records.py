"""Writes a record of each container, so that a later server can take it over or end it.

A process is identified by its pid, the machine's boot id and its start in clock ticks since the boot (field 22
of /proc/<pid>/stat): setting the clock does not change these, and no other process has the same.
"""

import contextlib
import dataclasses
import json
import logging
import os
import select
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any

from homeport import durable, removing
from homeport.contract import codec
from homeport.contract.container import Container, Launch, State
from homeport.contract.dataclass import dataclass
from homeport.contract.traffic import PoolKey
from homeport.node.cells import networks
from homeport.node.containers import leftovers
from homeport.node.held import Held

PATIENCE_S = 10.0  # init gives up after half of that

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """A container of an earlier server that still runs."""

    container: Container
    launch: Launch
    leader: int  # the pid of its init


def write(directory: Path, container: Container, launch: Launch, leader: int) -> None:
    """Write the record of a container into its directory.

    If that fails, the earlier record stays. Without a record, its init ends the container.
    """
    added = {f.name: getattr(launch, f.name) for f in dataclasses.fields(launch)}
    del added["order"]  # it is the container's
    fresh = directory / "record.new"
    try:
        record = {
            "boot": durable.boot(),
            "init": leader,
            "ticks": _ticks(leader),
            # Its tunnels end with this server: a later one does not hear when they are closed.
            "container": codec.encode(dataclasses.replace(container, tunnels=())),
            "launch": codec.encode(added),
        }
        fresh.write_text(json.dumps(record))
        fresh.replace(directory / "record")
    except OSError as error:
        log.warning("a later server could not take %s over: %s", container.id, error)


def sweep(root: Path) -> Collection[Left]:
    """Return the containers of an earlier server that are ready; end the others.

    A container whose record this version cannot read is ended too.
    """
    ready = []
    for directory in root.iterdir():
        if (record := _running_record(directory / "record")) is not None:
            container_left = _container_of(record)
            if container_left is not None and container_left.container.state is State.READY:
                ready.append(container_left)
                continue
            _end(record, directory)
        leftovers.end(leftovers.NOBODY, directory / "tmp")
        networks.end(directory)
        removing.discard(str(directory))
    return ready


def _running_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a container that still runs; None if another process has its pid now."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        record: dict[str, Any] = json.loads(path.read_text())
        if record["boot"] == durable.boot() and record["ticks"] == _ticks(record["init"]):
            return record
    return None


def _container_of(record: dict[str, Any]) -> Left | None:
    """Return the container that a record describes; None if it cannot be read."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        described = record["container"]
        if "spec" in described:  # written by an older version
            described, added = _upgraded(described)
        else:
            added = record["launch"]
        container: Container = codec.decode(Container, described)
        launch: Launch = codec.decode(Launch, {**added, "order": described["order"]})
        return Left(container, launch, record["init"])
    return None


def _upgraded(described: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a container and the additions to its launch from a record with a `spec`.

    There, one object had the order, the launch and most of the function, under the present names.
    """
    spec = described["spec"]
    function = {**spec, "name": spec["function"]}
    del function["parameters"]  # the pool's values, not the function's declarations
    pool = codec.encode(PoolKey.parse(spec["pool"]))
    return {**described, "order": {**spec, "pool": pool, "function": function}}, spec


def _ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; -1 if it has ended."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        if state not in "ZX":
            return int(fields[18])
    return -1


def _end(record: dict[str, Any], directory: Path) -> None:
    """Kill the container's runner, after which its init ends everything."""
    leader: int = record["init"]
    with contextlib.suppress(OSError):
        init = Held(leader, os.pidfd_open(leader))
        try:
            with contextlib.suppress(OSError, TypeError, KeyError):
                runner = Held.of(os.pidfd_open(record["container"]["pid"]), parent=leader)
                runner.signal(signal.SIGKILL)
                runner.close()
                select.select([init.pidfd], [], [], PATIENCE_S)
            init.signal(signal.SIGKILL)
            select.select([init.pidfd], [], [], PATIENCE_S)
        finally:
            init.close()
    leftovers.end(leader, directory / "tmp")


def in_words(code: int | None, memory_was_short: bool = False) -> str:
    """Return how a process ended that homeport has not killed, in words."""
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
    return "was killed by SIGKILL, by itself or by another program on this machine"


def memory_shortages() -> int:
    """Return how many processes the kernel has killed since the boot because memory ran out; -1 if unknown.

    Includes processes in cgroups with a limit (proc(5), /proc/vmstat).
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return -1
