"""Preloaded modules that a script cannot see until it imports them.

A zygote imports modules ahead of time (recorder.py) and puts them on a shelf, outside `sys.modules`. A
finder, first on `sys.meta_path`, hands a module over when the script imports it, together with the modules
that it had imported. It also repeats the effects of those imports on the process: variables, warning
filters, loggers, pickling functions, exit functions. It does so only if everything that the imports read
is the same: environment variables, `sys.path`, and the working directory if they asked for it. Otherwise
it calls `changed`, which starts again in a fresh interpreter, and returns only if requests are already in
the container. The modules' files are compared before the fork (`stale`).

A module from the shelf differs from a fresh import only in these ways: `gc.get_objects()` and
`object.__subclasses__()` list objects of modules that are still on the shelf, and constants made from the
clock are older than the process.
"""

import logging
import os
import sys
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

from homeport.contract.variables import SILENTLY_READ
from homeport.sdk.preload import loaded
from homeport.sdk.preload.record import Group, Record, by_order, names, stamps
from homeport.sdk.preload.repeats import RESEEDED, environ, is_plain, repeat, reseed


class Shelf:
    """The preloaded modules of this process.

    One class, because what it checks before a fork is what it hands over after it.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.changed: Callable[[str, Sequence[str]], Any] = _refuse
        self.repeat: Callable[[str, tuple[Any, ...]], None] = repeat
        self.looks: Callable[[str], None] = _ignore
        self.roots: list[str] = []  # the modules that `Recorder.load` was called for, in order
        self._groups: dict[str, Group] = {}
        self.out: set[str] = set()  # the modules that are in `sys.modules` now
        self._path: list[str] = []
        self._silent: dict[str, str] = {}
        self._filters: list[Any] = []
        self._known_tops: set[str] | None = None  # computed before the fork, see `Group`
        self._shadowing: set[str] = set()  # module names in new directories of `sys.path`
        self._moved = False  # whether the user's directory has other files
        self._dirs: dict[str, int] = {}
        self._handing: tuple[Any, Any] | None = None
        # For `stale` and `unlike`:
        self._files, self._stamps = "", array("q")
        self._first: dict[str, str | None] = {}  # variable -> the value that the imports read first
        self._native = False

    # before the fork

    def settle(self, source: str = "") -> None:
        """Save the state with which the imports worked, to compare it when a module is handed over.

        `source` is the user's own directory, whose files may change.
        """
        self._path = list(sys.path)
        self._silent = _silent(environ())
        self._filters = list(warnings.filters)
        self._dirs = {entry: names(entry) for entry in sys.path if entry != source}

    def put_away(self, names: Iterable[str]) -> None:
        """Take modules out of `sys.modules`, and off the packages that have them as attributes."""
        for name in names:
            sys.modules.pop(name, None)
        self.out.difference_update(names)
        needed: dict[str, frozenset[str]] = {}  # package -> all that it needs
        for name in names:
            record = self.records[name]
            parent, _, child = name.rpartition(".")
            holder = (
                self.records[parent].module if parent in self.records else sys.modules.get(parent)
            )
            attributes = getattr(holder, "__dict__", {})
            if not parent or attributes.get(child, self) is not record.module:
                continue
            if parent in self.records:
                if parent not in needed:
                    needed[parent] = frozenset(record.name for record in self._needed(parent))
                if name in needed[parent]:
                    continue  # both always leave together
            record.bound = (holder, child)
            del attributes[child]
        self._groups.clear()
        self._known_tops = None

    def first(self) -> None:
        """Put this finder before every other finder."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def wrote(self, name: str, value: str | None) -> None:
        """Record that an import set a variable, which it does in every process."""
        if name.startswith(SILENTLY_READ):
            self._silent.pop(name, None)
            if value is not None:
                self._silent[name] = value

    def prepare(self) -> None:
        """Compute the group of each root now, before the fork."""
        for name in self.roots:
            parts = name.split(".")
            for count in range(1, len(parts) + 1):  # a package comes before what is in it
                self.group(".".join(parts[:count]))
        everything = Group(list(self.records.values()))
        self._native = everything.native
        self._tops()
        for what, args, _ in everything.reads:
            if what == "read":
                self._first.setdefault(*args)
            else:  # from here on, the imports read the values that they have set
                self._first.setdefault(args[0], environ().get(args[0]))
        stamp_by_path = {
            record.path: record.stamp
            for record in self.records.values()
            if record.stamp is not None
        }
        self._files = "\0".join(stamp_by_path)
        self._stamps = array("q", [number for was in stamp_by_path.values() for number in was])

    def stale(self) -> str:
        """Return which file has changed since its import, or what was installed, in words; else empty.

        1,250 modules take 1.5 ms. After a fork, reading a list of objects would copy their pages, so all
        paths are one text and all stamps one array.
        """
        files = self._files.split("\0") if self._files else []
        for entry, was in self._dirs.items():
            if names(entry) != was:
                return f"something was installed in `{entry}`, or removed"
        if stamps(files) == self._stamps:
            return ""
        for number, path in enumerate(files):
            if stamps([path]) != self._stamps[number * 3 : number * 3 + 3]:
                return f"`{path}` has changed"
        return ""

    def unlike(self, environ: Mapping[str, str]) -> str:
        """Return the variable whose value differs from the one that an import read; empty if none does."""
        for name, value in self._first.items():
            if environ.get(name) != value:
                return f"{name} is another one"
        return _difference(self._silent, _silent(environ)) if self._native else ""

    def reads(self) -> list[str]:
        """Return the variables that the imports read."""
        return sorted(
            {
                args[0]
                for record in self.records.values()
                for _, what, args in record.events
                if what == "read"
            }
        )

    # after the fork

    def moves(self, source: str) -> None:
        """Leave the user's directory: what an import found there is not there any more."""
        self._moved = True
        self._path = [entry for entry in self._path if entry != source]

    def at_home(self, source: str) -> None:
        """Set the user's directory, first on `sys.path`: its files win over modules on the shelf."""
        if self._path and source not in self._path:
            self._path = [source, *self._path]
        self._shadowing |= self._provided([source]) & self._tops()

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Return the shelf's module to an `import` statement; `importlib.util.find_spec` gets the file's."""
        self.looks(name)
        if name not in self.records or name in self.out or not _importing():
            return None
        top = name.partition(".")[0]
        if top in self._shadowing_now() and not self._is_own(top):
            return None
        group = self.group(name)
        if reason := self._objection(group):
            self.changed(reason, self._spoilt())
            # `changed` has returned: requests are in the container, so the script cannot start again.
            if not group.native:
                self._withdraw(group)
                return None
        return ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> Any:
        """Hand over the module with its group, and repeat the effects of their imports."""
        group = self.group(spec.name)
        reason = ""
        new: set[str] = set()
        for name, module in zip(group.names, group.modules, strict=True):
            if name in self.out:
                if sys.modules.get(name) is not module:
                    reason = f"there is another `{name}`"
            elif name in sys.modules and name != spec.name:
                reason = f"there is another `{name}`"
            else:
                new.add(name)
                if name != spec.name:
                    sys.modules[name] = module
        if reason:
            self.changed(reason, [spec.name, *self._spoilt()])
        self.out |= new
        loaded.handed |= group.installed
        for name, holder, child in group.bound:
            if name in new:
                vars(holder)[child] = self.records[name].module
        for name in RESEEDED:
            if name in new:
                reseed(name, self.records[name].module)
        for what, args, name in group.does:
            if name in new:
                self.repeat(what, args)
                if what == "write":
                    self.wrote(*args)
        requested = self.records[spec.name].module
        self._handing = getattr(requested, "__spec__", None), getattr(requested, "__loader__", None)
        return requested

    def exec_module(self, module: Any) -> None:
        """Restore the module's attributes that the import system has just set."""
        assert self._handing is not None
        spec, loader = self._handing
        if isinstance(module, ModuleType):
            module.__spec__, module.__loader__ = spec, loader

    def group(self, name: str) -> "Group":
        """Return a preloaded module with all modules that it needs."""
        if name not in self._groups:
            self._groups[name] = Group(sorted(self._needed(name), key=by_order))
        return self._groups[name]

    def _needed(self, name: str) -> Iterator[Record]:
        """Yield a preloaded module and all modules that it needs, each once."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            module_name = todo.pop()
            if module_name in seen:
                continue
            seen.add(module_name)
            if parent := module_name.rpartition(".")[0]:
                todo.append(parent)
            if (record := self.records.get(module_name)) is not None:
                todo += record.needs
                yield record

    # whether they may be handed over

    def _objection(self, group: "Group") -> str:
        """Return why this group cannot be handed over, in words; empty if it can."""
        for top in group.tops & self._shadowing_now():
            if not self._is_own(top):
                return f"`{top}` would be found elsewhere: `sys.path` has changed"
        if group.cwds and group.cwds != {os.getcwd()}:  # noqa: PTH109
            return "the working directory has changed"
        if group.reads_users and self._moved:
            return "an import has read a file of another version"
        if group.warned and warnings.filters != self._filters:
            return "the warning filters have changed"
        if group.native and (difference := _difference(self._silent, _silent(environ()))):
            return difference
        return self._reads_otherwise(group) or self._conflict(group)

    def _reads_otherwise(self, group: "Group") -> str:
        """Return the variable whose value differs from the one that the group read; empty if none does."""
        now: dict[str, str | None] = dict(environ())
        for what, (name, value), module in group.reads:
            if module in self.out:
                continue
            if what == "write":
                now[name] = value
            elif now.get(name) != value:
                return f"{name} was changed"
        return ""

    def _conflict(self, group: "Group") -> str:
        """Return the logger that the script has made already and an import configured; empty if none."""
        loggers = logging.Logger.manager.loggerDict
        for what, args, module in group.does:
            if what == "logger" and module not in self.out:
                own_logger = loggers.get(args[0])
                if (
                    isinstance(own_logger, logging.Logger)
                    and own_logger is not args[1]
                    and not is_plain(args[1])
                ):
                    return f"the logger {args[0]} is there already"
        return ""

    def _withdraw(self, group: "Group") -> None:
        """Take the group, and the modules that need it, off the shelf: import them from their files."""
        withdrawn = set(group.names) - self.out
        users = [
            n
            for n in self.records
            if n not in self.out and withdrawn.intersection(self.group(n).names)
        ]
        for name in {*withdrawn, *users}:
            self.records.pop(name, None)
        self._groups.clear()
        self._known_tops = None

    def _spoilt(self) -> list[str]:
        """Return the modules on the shelf that cannot be handed over now."""
        alone = [n for n, record in self.records.items() if self._objection(Group([record]))]
        whole = [n for n in self.roots if n in self.records and self._objection(self.group(n))]
        return [name for name in dict.fromkeys((*alone, *whole)) if name not in self.out]

    def _shadowing_now(self) -> set[str]:
        """Return names of packages that new directories of `sys.path` may have too."""
        if sys.path == self._path:
            return self._shadowing
        new = [entry for entry in sys.path if entry not in self._path]
        removed = [entry for entry in self._path if entry not in sys.path]
        common = [entry for entry in sys.path if entry in self._path]
        if removed or common != self._path:
            return self._tops()
        return self._shadowing | (self._provided(new) & self._tops())

    def _tops(self) -> set[str]:
        if self._known_tops is None:
            tops = {record.top for record in self.records.values()}
            self._known_tops = tops.union(*(record.looked for record in self.records.values()))
        return self._known_tops

    def _provided(self, entries: Iterable[str]) -> set[str]:
        """Return the names of the packages and modules in these directories."""
        names: set[str] = set()
        for entry in entries:
            try:
                names |= {name.partition(".")[0] for name in os.listdir(entry or ".")}  # noqa: PTH208
            except OSError:  # perhaps an archive, which may have any module
                names |= self._tops() if os.path.exists(entry) else set()  # noqa: PTH110
        return names

    def _is_own(self, top: str) -> bool:
        """Return whether an import would find the same file as the module on the shelf."""
        record = self.records.get(top)
        spec = PathFinder.find_spec(top)
        if record is None:
            return spec is None
        was = getattr(record.module, "__spec__", None)
        return spec is None or (spec.loader is None) or getattr(was, "origin", None) == spec.origin


def _importing() -> bool:
    """Return whether an import has called the finder, and not `importlib.util.find_spec`."""
    frame = sys._getframe(3)  # noqa: SLF001 - this, find_spec, _find_spec
    return frame.f_code.co_name == "_find_and_load_unlocked"


def _silent(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(SILENTLY_READ)}


def _difference(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the name of a variable that differs, without its value, which may be secret."""
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            return f"{name} was changed"
    return ""


def _ignore(_name: str) -> None:
    pass


def _refuse(reason: str, _names: Sequence[str]) -> NoReturn:
    raise RuntimeError(f"a preloaded module cannot be handed over: {reason}")
