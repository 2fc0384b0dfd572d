"""The record of one preloaded module: what its import read and did. And groups of such modules."""

import os
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from homeport.sdk.preload.loaded import is_installed

ENVIRON = ("read", "write")  # events
Stamp = tuple[int, int, int]
Event = tuple[int, str, tuple[Any, ...]]  # its number in time, what happened, the arguments


class Record:
    """One preloaded module: what its import read, and what it did."""

    __slots__ = (
        "asks_cwd", "bound", "cwd", "events", "looked", "module", "name", "native",
        "needs", "order", "path", "reads_users", "stamp", "warned",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.module: Any = None
        self.order = 0  # how many imports ended before this one
        #: The modules that it imported, in its code or by a function it called; a set in their order.
        self.needs: dict[str, None] = {}
        self.looked: set[str] = set()  # names of modules that it looked for; some do not exist
        self.events: list[Event] = []
        self.path = ""  # the path of its file
        self.stamp: Stamp | None = None
        self.native = False  # True for machine code: it may read variables unseen
        self.warned = False  # True if a warning filter suppressed a warning during the import
        self.asks_cwd = False
        self.reads_users = False  # True if it opened a file of the user's
        self.cwd = ""  # the working directory of the import
        self.bound: tuple[Any, str] | None = None  # the parent package, and the attribute in it

    def absorb(self, failed: "Record") -> None:
        """Add the record of a failed import that this module made: its effects happened too."""
        self.needs |= failed.needs
        self.events += failed.events
        self.looked |= failed.looked
        self.warned = self.warned or failed.warned
        self.asks_cwd = self.asks_cwd or failed.asks_cwd
        self.reads_users = self.reads_users or failed.reads_users

    @property
    def top(self) -> str:
        """The package's name."""
        return self.name.partition(".")[0]


class Group:
    """A preloaded module and the modules that it needs, in the order in which their imports ended.

    Has its own lists, because after a fork, reading a `Record` would copy its page.
    """

    __slots__ = (
        "bound", "cwds", "does", "installed", "modules", "names", "native", "reads", "reads_users", "tops", "warned",
    )  # fmt: skip

    def __init__(self, members: "list[Record]") -> None:
        self.names = [record.name for record in members]
        self.modules = [record.module for record in members]
        self.installed = {
            record.name for record in members if is_installed(record.name, record.path)
        }
        self.bound = [
            (record.name, *record.bound) for record in members if record.bound is not None
        ]
        self.tops = {record.top for record in members}.union(*[record.looked for record in members])
        events = [(*event, record.name) for record in members for event in record.events]
        events.sort(key=_when)
        self.reads = [(what, args, name) for _, what, args, name in events if what in ENVIRON]
        self.does = [(what, args, name) for _, what, args, name in events if what != "read"]
        self.native = any(record.native for record in members)
        self.warned = any(record.warned for record in members)
        self.cwds = {record.cwd for record in members if record.asks_cwd}
        self.reads_users = any(record.reads_users for record in members)


def by_order(record: Record) -> int:
    return record.order


def _when(event: Sequence[Any]) -> int:
    return int(event[0])


def stamp(path: str) -> Stamp | None:
    """Return a value that changes when a file is written or replaced; None if the file does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of very many
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def stamps(paths: Iterable[str]) -> "array[int]":
    numbers = array("q")
    for path in paths:
        numbers.extend(stamp(path) or (0, 0, 0))
    return numbers


def names(entry: str) -> int:
    """Return a value that changes when a package is installed or upgraded in this directory."""
    try:
        return hash(frozenset(name for name in os.listdir(entry) if name != "__pycache__"))  # noqa: PTH208
    except OSError:
        return 0
