"""Imports modules ahead of time, as long as a fork can carry them over.

For the runner's zygotes, and for `serve`, which loads a script again at each save.

A thread does not survive a fork, and a descriptor that two processes share is a race: a module whose
import leaves either behind is not for a zygote (man 2 fork).
"""

import contextlib
import importlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator


class Unsafe(Exception):
    """A fork would not carry this process over"""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name  # the module that was being imported


def load(modules: Iterable[str]) -> None:
    """Import them in order, as far as they are there.

    Raises `Unsafe` at the first one that leaves something behind: this process is spoilt then.
    """
    watch = Watch()
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException:  # noqa: S112 - the container imports it again, and says what is wrong
            continue
        if reason := watch.left_behind():
            raise Unsafe(name, reason)


class Watch:
    """Compares what this process has with what it had."""

    def __init__(self) -> None:
        self._had = dict(_descriptors())

    def left_behind(self) -> str:
        """What a fork could not carry over; empty when all is well."""
        if _threads() > 1:
            # Some libraries end their threads before a fork and begin them anew after it (OpenBLAS).
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


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib costs 10 ms


def _descriptors() -> Iterator[tuple[int, tuple[int, int]]]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            yield int(name), (status.st_dev, status.st_ino)


def _shared(descriptor: int) -> str:
    """What a descriptor is, where two processes that share it would disturb each other."""
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


class Reads:
    """Which environment variables were looked at: what a preloaded module made of them stays."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._encode = os.environ.encodekey

    def __enter__(self) -> "Reads":  # noqa: PYI034 - 3.10 has no Self
        def encode(key: str) -> str:
            self.names.add(key)
            return self._encode(key)

        os.environ.encodekey = encode
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.encodekey = self._encode


def forget_shadowed(source: str) -> None:
    """A module in the user's tree wins over an installed one of its name, as on a fresh start."""
    builtin = set(sys.stdlib_module_names)
    for entry in os.listdir(source):  # noqa: PTH208
        name = entry.removesuffix(".py")
        if name in sys.modules and name not in builtin and name != "homeport":
            for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[loaded]


_known = ""  # the last module that was loaded when this process was forked


def mark() -> None:
    """What is loaded now is known already; `since_mark` leaves it out."""
    global _known  # noqa: PLW0603 - there is one sys.modules
    _known = next(reversed(sys.modules))


def since_mark() -> list[str]:
    """The names of the modules that were loaded since then, in order; without a mark, of all."""
    found = []
    # From the end: looking at an object writes to its page, and so unshares it after a fork.
    for name in reversed(sys.modules):
        if name == _known:
            break
        found.append(name)
    return found[::-1]


def third_party() -> tuple[str, ...]:
    """The installed modules that were loaded since `mark`, in order."""
    found = []
    for name in since_mark():
        file = getattr(sys.modules[name], "__file__", None) or ""
        installed = "site-packages" in file or "dist-packages" in file
        if installed and name.partition(".")[0] != "homeport":
            found.append(name)
    return tuple(found)
