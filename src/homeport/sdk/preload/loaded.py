"""Finds threads and descriptors that an import leaves behind, which a fork cannot copy; lists the modules loaded
since a mark.

A thread does not survive a fork, and two processes that share a descriptor disturb each other (man 2 fork).
So a module whose import leaves a thread or such a descriptor behind is not loaded ahead of time. Nor is one that
asks NVIDIA's driver: no GPU is visible then, and neither the driver nor the module asks again.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator

#: NVIDIA's libraries read this file when they are asked for devices (cuInit, nvmlInit), also where none is visible. Each
#: cell has a /proc of its own, so reads by other processes are not seen here.
PARAMETERS = "/proc/driver/nvidia/params"
IN_OPEN, IN_NONBLOCK = 0x20, 0o4000  # man 7 inotify


class Forkable:
    """Compares this process's threads and descriptors with those at the time of its construction."""

    def __init__(self) -> None:
        self._had = dict(_descriptors())
        self._watch = _watch(PARAMETERS)

    def left_behind(self) -> str:
        """Return a description of what a fork could not copy; empty if there is nothing. Call it once."""
        if _has_seen(self._watch):
            return "it asks NVIDIA's driver, and no GPU is visible yet"
        if _threads() > 1:
            # Some libraries end their threads before a fork and start new ones after it (OpenBLAS).
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            if _threads() > 1:
                return "it starts a thread"
        for descriptor, identity in _descriptors():
            if self._had.get(descriptor) != identity and (what := _shared(descriptor)):
                return f"it opens {what}"
        return ""


def _watch(path: str) -> int:
    """Start to watch whether a file is opened; return a descriptor, or -1 if the file does not exist."""
    if not os.path.exists(path):  # noqa: PTH110
        return -1
    import ctypes  # only where there is a driver

    libc = ctypes.CDLL(None, use_errno=True)
    watch = int(libc.inotify_init1(IN_NONBLOCK | os.O_CLOEXEC))
    if watch >= 0 and libc.inotify_add_watch(watch, os.fsencode(path), IN_OPEN) < 0:
        os.close(watch)
        return -1
    return watch


def _has_seen(watch: int) -> bool:
    """Return whether the watched file was opened; stop watching it."""
    if watch < 0:
        return False
    with open(watch, "rb", buffering=0) as events:
        return bool(events.read(4096))


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib costs 10 ms


def _descriptors() -> Iterator[tuple[int, tuple[int, int]]]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            yield int(name), (status.st_dev, status.st_ino)


def _shared(descriptor: int) -> str:
    """Return a description of a descriptor, if two processes that share it would disturb each other; else empty."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISREG(mode):
        return "a file for writing" if _writes(descriptor) else ""
    if stat.S_ISDIR(mode):
        return ""
    if stat.S_ISCHR(mode):
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        return "" if path in ("/dev/null", "/dev/urandom", "/dev/random") else path
    return "a pipe"


def _writes(descriptor: int) -> bool:
    import fcntl

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    return flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND


#: Installed modules that a shelf has handed over: to read their `__file__` would copy a page for each.
handed: set[str] = set()

_known = ""  # the last module that was loaded when this process was forked


def mark() -> None:
    """Mark the modules loaded so far; `since_mark` leaves them out."""
    global _known  # noqa: PLW0603 - there is one sys.modules
    _known = next(reversed(sys.modules))


def since_mark() -> list[str]:
    """Return the names of the modules loaded since `mark`, in order; without a mark, of all modules."""
    names = []
    # From the end: reading an object writes its reference count, and so copies its page after a fork.
    for name in reversed(sys.modules):
        if name == _known:
            break
        names.append(name)
    return names[::-1]


def third_party() -> tuple[str, ...]:
    """Return the installed modules that were loaded since `mark`, in order."""
    return tuple(
        name
        for name in since_mark()
        if name in handed or is_installed(name, getattr(sys.modules[name], "__file__", None))
    )


def is_installed(name: str, file: str | None) -> bool:
    """Return whether a module belongs to an installed package, by its file.

    >>> is_installed("yaml", "/lib/site-packages/yaml/__init__.py"), is_installed("shop", "/root/shop.py")
    (True, False)
    """
    installed = file is not None and ("site-packages" in file or "dist-packages" in file)
    return installed and name.partition(".")[0] != "homeport"
