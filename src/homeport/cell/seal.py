"""The last step of a container's start: it drops rights that it can never get again.

The order matters: limits while there are capabilities to set them, no_new_privs before the filters,
which need it, and the filter of system calls at the end, because it refuses the calls before it.
"""

import os
import resource

from homeport.cell import kernel, seccomp
from homeport.cell.description import Cell, Limits, Network

#: As Docker keeps them (man 7 capabilities), without NET_RAW (forged packets, no use for a web
#: function), MKNOD and AUDIT_WRITE (the kernel refuses both in a user namespace).
KEPT = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
    "SETFCAP": 31,
}
SCOPES_ABI = 6  # of Landlock: from here on it can refuse abstract sockets and signals


def seal(cell: Cell) -> None:
    """Seal the runner: it keeps root's usual capabilities over the cell's own files and processes."""
    limit(cell.limits)
    _close(cell, sum(1 << number for number in KEPT.values()))


def seal_init(cell: Cell) -> None:
    """Seal pid 1, which only reaps and forwards signals: it keeps KILL, and no process may trace it."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    _close(cell, 1 << KEPT["KILL"])


def limit(limits: Limits) -> None:
    """Set the hard limits of resources (man 2 getrlimit), never above the present ones."""
    for resource_id, new_hard in (
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_CORE, limits.core_bytes),
    ):
        soft, hard = resource.getrlimit(resource_id)
        top = new_hard if hard == resource.RLIM_INFINITY else min(new_hard, hard)
        new_soft = top if soft == resource.RLIM_INFINITY else min(soft, top)
        # A soft limit of descriptors stays small: programs that use select() or close all of them
        # suffer from a large one.
        resource.setrlimit(
            resource_id, (new_soft if resource_id == resource.RLIMIT_NOFILE else top, top)
        )


def _close(cell: Cell, capabilities: int) -> None:
    # Only now: a new cgroup namespace shows the process's present cgroup, the container's, as the
    # root.
    kernel.unshare(kernel.NEWCGROUP)
    os.umask(0o022)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.set_capabilities(capabilities)
    if cell.network is Network.HOST and kernel.landlock_abi() >= SCOPES_ABI:
        # A network namespace has abstract sockets of its own; without one, Landlock keeps them apart.
        kernel.landlock_scope(kernel.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET)
    kernel.seccomp(seccomp.program())
