"""One preloaded module, what its import depended on and what it did; and those that come together."""

import os
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

ENVIRON = ("read", "write")  # events
Stamp = tuple[int, int, int]
Event = tuple[int, str, tuple[Any, ...]]  # when (a count), what, and its arguments


class Kept:
    """One preloaded module: what its import needed, and what it did."""

    __slots__ = (
        "asks_cwd", "bound", "cwd", "events", "looked", "module", "name", "native",
        "needs", "order", "path", "stamp", "warned",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.module: Any = None
        self.order = 0  # imports that ended before it
        self.needs: list[
            str
        ] = []  # modules that it imported, in its code or by a function it called
        self.looked: set[str] = set()  # names of modules that it looked for; not all exist
        self.events: list[Event] = []
        self.path = ""  # of its file
        self.stamp: Stamp | None = None
        self.native = False  # machine code: it may read variables that nobody sees it read
        self.warned = False  # a warning that the filters of that time did not show
        self.asks_cwd = False
        self.cwd = ""  # where it was imported
        self.bound: tuple[Any, str] | None = None  # its parent, which has it as that attribute

    def absorb(self, failed: "Kept") -> None:
        """A module that it imported could not be; what that one did has been done all the same."""
        self.needs += failed.needs
        self.events += failed.events
        self.looked |= failed.looked
        self.warned = self.warned or failed.warned
        self.asks_cwd = self.asks_cwd or failed.asks_cwd

    @property
    def top(self) -> str:
        """The package's name."""
        return self.name.partition(".")[0]


class Group:
    """A preloaded module and what comes with it, in the order in which their imports ended.

    In lists of its own: after a fork, a look at a `Kept` would unshare its page.
    """

    __slots__ = ("bound", "cwds", "does", "modules", "names", "native", "reads", "tops", "warned")

    def __init__(self, members: "list[Kept]") -> None:
        self.names = [kept.name for kept in members]
        self.modules = [kept.module for kept in members]
        self.bound = [(kept.name, *kept.bound) for kept in members if kept.bound is not None]
        self.tops = {kept.top for kept in members}.union(*[kept.looked for kept in members])
        events = [(*event, kept.name) for kept in members for event in kept.events]
        events.sort(key=_when)
        self.reads = [(what, args, name) for _, what, args, name in events if what in ENVIRON]
        self.does = [(what, args, name) for _, what, args, name in events if what != "read"]
        self.native = any(kept.native for kept in members)
        self.warned = any(kept.warned for kept in members)
        self.cwds = {kept.cwd for kept in members if kept.asks_cwd}


def by_order(kept: Kept) -> int:
    return kept.order


def _when(event: Sequence[Any]) -> int:
    return int(event[0])


def stamp(path: str) -> Stamp | None:
    """Another one once a file was written or replaced; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of very many
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def stamps(paths: Iterable[str]) -> "array[int]":
    found = array("q")
    for path in paths:
        found.extend(stamp(path) or (0, 0, 0))
    return found


def names(entry: str) -> int:
    """Another one once a package was installed there; of one that is upgraded, its version's name tells."""
    try:
        return hash(frozenset(name for name in os.listdir(entry) if name != "__pycache__"))  # noqa: PTH208
    except OSError:
        return 0
