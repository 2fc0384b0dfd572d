"""A nested cell: a process below a base cell whose children get private cells of their own.

Functions of several apps share a base cell. What runs for one of them before a container is sealed (the
imports of its packages) is in a nested cell: it sees neither the processes nor the written files of the
others, and cannot change what their private cells are built from.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Sequence

from homeport.cell import base, identity, kernel, mounts, namespaces, private
from homeport.cell.description import Cell, Network

TMPS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - places to mount on
#: A zygote finds an import that keeps the process id by looking for the number; a small number has other meanings too often.
HIGH = 30_000


def fork(
    cell: Cell,
    name: str,
    pairs: Sequence[tuple[mounts.Mount, int]],
    *,
    writes: bool = False,
    network: Network = Network.HOST,
    last: Callable[[str], None] | None = None,
) -> int:
    """Fork like os.fork(), but the caller does not wait for the child, whose parent is a process that only reaps.

    That process is pid 1, and lasts until the last process of the cell has ended. `name` is the cell's
    directory in the storage. `pairs` and `last` are as for `mounts.place`. With `writes` the child may write
    everywhere, and its private cells begin with what it has written. Returns 0 in the child, else the
    pid of pid 1. In pid 1 an `OSError` says what failed.
    """
    first = namespaces.fork(network, identity.nested())
    if first:
        return first
    if network is not Network.HOST:
        base.loopback_up()
    if writes:
        private.build(cell, name, keeps_stage=True)
    else:
        _narrow(cell, name)
    mounts.place(pairs, stays=True, last=last)
    _count_from(HIGH)
    namespaces.lock()
    worker = os.fork()
    if worker:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        base.linger()
    return worker


def _count_from(pid: int) -> None:
    """Make the kernel count the process ids of this cell from above `pid`, where it allows that
    (man 7 pid_namespaces).
    """
    with contextlib.suppress(OSError), open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid))


def _narrow(cell: Cell, name: str) -> None:
    """Narrow the view to that of the base cell, without the files and processes of others."""
    hidden, up = base.HIDDEN, f"{base.HIDDEN}/{base.UP}"
    shown = mounts.read_places()
    kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.PRIVATE)
    os.mkdir(f"{up}/{name}", 0o700)
    own = kernel.open_tree(f"{up}/{name}", recursive=False)
    kernel.bind(hidden, hidden)
    flags = kernel.BIND | kernel.REMOUNT | kernel.RDONLY | base.TIGHT
    kernel.mount("none", hidden, None, flags)
    kernel.move_mount(own, up)
    os.close(own)
    for path in TMPS:
        size = f"mode=1777,size={cell.shm_mib}m"
        with mounts.still_shown(path, shown):  # an interpreter in /tmp, say
            kernel.mount("tmpfs", path, "tmpfs", base.TIGHT, size)
    kernel.mount("proc", "/proc", "proc", base.TIGHT | kernel.NOEXEC)
