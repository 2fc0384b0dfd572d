"""The system calls that a cell is made with: one small function each, by `ctypes`.

Each call raises `OSError` with the kernel's errno; its `filename` says what was tried. No call starts
a program, so all of them work in a process that was just forked. The calls that change the user
namespace need a process with one thread (man 2 unshare, EINVAL).
"""

import ctypes
import os
import platform
import struct

# linux/sched.h
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
# linux/mount.h: flags of mount(2) and umount2(2)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
BIND, RECURSIVE, PRIVATE, SLAVE = 0x1000, 0x4000, 1 << 18, 1 << 19
DETACH = 2
# linux/mount.h: attributes of mount_setattr(2)
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, ATTR_IDMAP = 1, 2, 4, 8, 0x00100000
# linux/prctl.h
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 3, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
RESOLVE_IN_ROOT = 0x10
CAPABILITY_VERSION_3 = 0x20080522
SECCOMP_SET_MODE_FILTER = 1
# One filter for every thread; and no loss of speed by the protection against Spectre v4, which the
# kernel gave to each filtered process until 5.16.
SECCOMP_TSYNC, SECCOMP_SPEC_ALLOW = 1, 4
LANDLOCK_VERSION = 1
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL = 1, 2

# Calls without a function in every libc. Those added since Linux 5.0 have one number everywhere.
_OLDER = {
    "x86_64": {"pivot_root": 155, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "seccomp": 277},
}
_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def number(name: str) -> int:
    """Return the number of a system call on this machine; `OSError` (ENOSYS) if this table does not have it."""
    if name in _NUMBERS:
        return _NUMBERS[name]
    try:
        return _OLDER[platform.machine()][name]
    except KeyError:
        raise OSError(38, f"not known on {platform.machine()}", name) from None


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (man 2 unshare)."""
    _checked(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(descriptor: int, flags: int = 0) -> None:
    """Enter a namespace that a descriptor stands for (man 2 setns)."""
    _checked(_libc.setns(descriptor, flags), "setns")


def mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    """Mount a file system, or change a mount (man 2 mount)."""
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _checked(result, f"mount {kind or source} on {target}")


def bind(source: str, target: str, *, recursive: bool = True) -> None:
    """Show `source`, a file or a directory, at `target` too (man 2 mount, MS_BIND)."""
    mount(source, target, None, BIND | (RECURSIVE if recursive else 0))


def umount(target: str, flags: int = DETACH) -> None:
    """Remove a mount with all that is mounted below it (man 2 umount2)."""
    _checked(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new: str) -> None:
    """Make the mount point `new` the root; the old root is gone (man 2 pivot_root, NOTES)."""
    os.chdir(new)
    _syscall("pivot_root", b".", b".", what=f"pivot_root to {new}")
    umount(".")
    os.chdir("/")


def open_tree(path: str, *, recursive: bool = True) -> int:
    """Return a copy of the mount at `path` that is mounted nowhere, as a descriptor (man 2 open_tree)."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return _syscall("open_tree", AT_FDCWD, os.fsencode(path), flags, what=f"open_tree {path}")


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open a path as if the directory `root` were `/`: no link and no `..` leads out of it (man 2 openat2)."""
    how = ctypes.create_string_buffer(
        struct.pack("<QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT), 24
    )
    return _syscall("openat2", root, os.fsencode(path) or b".", how, 24, what=path)


def move_mount(tree: int, target: str) -> None:
    """Mount what `open_tree` returned at `target` (man 2 move_mount)."""
    flags = MOVE_MOUNT_F_EMPTY_PATH
    what = f"move_mount to {target}"
    _syscall("move_mount", tree, b"", AT_FDCWD, os.fsencode(target), flags, what=what)


def mount_setattr(tree: int, attributes: int, users: int = 0, *, recursive: bool = True) -> None:
    """Set attributes of a mount that `open_tree` returned (man 2 mount_setattr).

    With ATTR_IDMAP, `users` is a descriptor of the user namespace whose first id becomes root's
    files: an id-mapped mount, for root only.
    """
    structure = ctypes.create_string_buffer(struct.pack("<QQQQ", attributes, 0, 0, users), 32)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(
        "mount_setattr", tree, b"", flags, structure, 32, what=f"mount_setattr {attributes:#x}"
    )


def prctl(option: int, value: int = 0, second: int = 0) -> int:
    """Set one of the many attributes of a process that man 2 prctl lists."""
    zero = ctypes.c_ulong(0)
    args = ctypes.c_ulong(value), ctypes.c_ulong(second), zero, zero
    return _checked(_libc.prctl(option, *args), f"prctl {option}")


def set_capabilities(allowed: int) -> None:
    """Give the process these capabilities and no others, also after any exec (man 7 capabilities).

    `allowed` has the bit 1 << n for each capability n that stays.
    """
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        last = int(file.read())
    for capability in range(last + 1):
        if not allowed >> capability & 1:
            prctl(PR_CAPBSET_DROP, capability)
    low, high = allowed & 0xFFFFFFFF, allowed >> 32
    header = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable: nothing is inheritable, as with Docker since CVE-2022-24769,
    # and so nothing is ambient (man 7 capabilities)
    data = struct.pack("<6I", low, low, 0, high, high, 0)
    _checked(_libc.capset(header, data), "capset")


def seccomp(program: bytes) -> None:
    """Filter this process's system calls by a BPF program, for ever (man 2 seccomp).

    It needs no_new_privs, or CAP_SYS_ADMIN.
    """
    code = ctypes.create_string_buffer(program, len(program))
    count, address = len(program) // 8, ctypes.addressof(code)
    filter_ = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", count, address), 16)
    flags = SECCOMP_TSYNC | SECCOMP_SPEC_ALLOW
    unfiltered = _syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, filter_, what="seccomp")
    if unfiltered:  # TSYNC answers with the thread that could not be filtered
        raise OSError(1, "a thread has a filter of its own", "seccomp")


def landlock_abi() -> int:
    """The version of Landlock that the kernel has; 0 if it has none or it is off (man 7 landlock)."""
    result = _libc.syscall(
        ctypes.c_long(number("landlock_create_ruleset")), None, ctypes.c_size_t(0), LANDLOCK_VERSION
    )
    return max(int(result), 0)


def landlock_scope(scopes: int) -> None:
    """Refuse this process and its children a connection to abstract sockets, or a signal to
    processes, outside of them.

    From ABI 6 (Linux 6.12). It needs no_new_privs, and no mount can be changed afterwards.
    """
    structure = ctypes.create_string_buffer(struct.pack("<QQQ", 0, 0, scopes), 24)
    rules = _syscall("landlock_create_ruleset", structure, 24, 0, what="landlock_create_ruleset")
    try:
        _syscall("landlock_restrict_self", rules, 0, what="landlock_restrict_self")
    finally:
        os.close(rules)


def close_from(first: int) -> None:
    """Close every descriptor from `first` on (man 2 close_range)."""
    _syscall("close_range", first, 0xFFFFFFFF, 0, what="close_range")


def _syscall(name: str, *args: object, what: str) -> int:
    arguments = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _checked(int(_libc.syscall(ctypes.c_long(number(name)), *arguments)), what)


def _checked(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), what)
    return result
