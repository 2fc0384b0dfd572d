"""A private cell: the sandbox of one container, built ahead of time inside a base cell.

`fork` gives the container's first process (pid 1) in namespaces of its own, on a root whose writable
layer is its own. Then, when it is known whose container it is: `mounts.place` once, and `seal` in each of
its processes.
"""

import contextlib
import os

from homeport import removing
from homeport.cell import base, identity, kernel, mounts, namespaces
from homeport.cell.description import Cell

NEW = f"{base.HIDDEN}/{base.NEW}"
# As Docker: these are read-only or hidden, because they change the machine or show other workloads.
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
MASKED = ("acpi", "scsi")
NULLED = ("kcore", "keys", "kmsg", "latency_stats", "sched_debug", "timer_list", "timer_stats")
TIGHT = kernel.NOSUID | kernel.NODEV


def fork(cell: Cell, name: str) -> int:
    """Fork like os.fork(); the child is pid 1 of the new cell. `name` is its directory in the storage.

    In the child an `OSError` says what failed; the caller may continue. One thread only.
    """
    child = namespaces.fork(cell.network, identity.nested())
    if child == 0:
        build(cell, name)
    return child


def build(cell: Cell, name: str, *, keeps_stage: bool = False) -> None:
    """Build the cell in new namespaces: its root, /proc and /dev, and nothing else of the base cell.

    With `keeps_stage`, keep the directories that are needed to build private cells below this one.
    """
    kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.PRIVATE)
    shown = mounts.read_places()
    storage = f"{base.HIDDEN}/{base.UP}/{name}"
    os.mkdir(storage, 0o700)
    mounts.write_places(storage, shown)
    _root(cell, storage)
    _stage(storage, keeps_stage=keeps_stage)
    for path in shown:
        kernel.bind(path, NEW + path)
    _devices(cell)
    kernel.mount("proc", f"{NEW}/proc", "proc", TIGHT | kernel.NOEXEC)
    if not keeps_stage:  # the kernel refuses a new /proc if the present one is masked
        _mask(f"{NEW}/proc")
    kernel.pivot_root(NEW)
    base.settle(cell)


def _root(cell: Cell, storage: str) -> None:
    if cell.overlay:
        mounts.overlay(NEW, base.lower(cell).split(":"), f"{storage}/root")
        return
    size = f"mode=755,size={cell.memory_root_mib}m"
    kernel.mount("tmpfs", NEW, "tmpfs", TIGHT, size)
    base.copy_skeleton(NEW)


def _stage(storage: str, *, keeps_stage: bool) -> None:
    stage, up = NEW + mounts.STAGE, f"{base.HIDDEN}/{base.UP}"
    if keeps_stage:
        kernel.bind(base.HIDDEN, stage)
        kernel.mount("none", stage, None, kernel.BIND | kernel.REMOUNT | kernel.RDONLY | TIGHT)
        kernel.bind(storage, f"{stage}/{base.UP}", recursive=False)
        return
    if os.path.isdir(f"{up}/{mounts.WRITTEN}"):
        os.mkdir(f"{storage}/{mounts.BELOW}")
    kernel.bind(storage, stage, recursive=False)
    if os.path.isdir(f"{storage}/{mounts.BELOW}"):
        kernel.bind(up, f"{stage}/{mounts.BELOW}", recursive=False)


def _devices(cell: Cell) -> None:
    # One directory for all cells of the base, so none may write in it; the devices still can be written.
    dev = f"{NEW}/dev"
    kernel.bind("/dev", dev)
    kernel.mount("none", dev, None, kernel.BIND | kernel.REMOUNT | kernel.RDONLY | TIGHT)
    kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", TIGHT, f"mode=1777,size={cell.shm_mib}m")
    kernel.mount("mqueue", f"{dev}/mqueue", "mqueue", TIGHT | kernel.NOEXEC)
    options = "newinstance,ptmxmode=0666,mode=0620"
    kernel.mount("devpts", f"{dev}/pts", "devpts", kernel.NOSUID | kernel.NOEXEC, options)


def _mask(proc: str) -> None:
    locked = kernel.BIND | kernel.REMOUNT | kernel.RDONLY | TIGHT | kernel.NOEXEC
    for name in READ_ONLY:
        with contextlib.suppress(FileNotFoundError):
            kernel.bind(f"{proc}/{name}", f"{proc}/{name}")
            kernel.mount("none", f"{proc}/{name}", None, locked)
    for name in MASKED:
        with contextlib.suppress(FileNotFoundError):
            kernel.mount("tmpfs", f"{proc}/{name}", "tmpfs", TIGHT | kernel.RDONLY, "size=0")
    for name in NULLED:
        with contextlib.suppress(FileNotFoundError):
            kernel.bind(f"{NEW}/dev/null", f"{proc}/{name}", recursive=False)


def remove(name: str) -> None:
    """From inside the base cell: delete what a private cell wrote, once its processes have ended.

    Its files may belong to ids that an ordinary user outside may not touch.
    """
    removing.discard(f"{base.HIDDEN}/{base.UP}/{name}")
