"""Imports modules for a shelf, and records what each import read and did.

Zygotes use it, and `serve`, which loads a script again at each save. During an import, hooks.py reports
look-ups of variables and modules, and changes to the process, for the module whose code runs. Then all
changes are undone, so that the process is as before. A change that cannot be undone makes the module
unsafe (effects.py).
"""

import codecs
import functools
import gc
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, NoReturn

from homeport.sdk.preload import loaded, patches
from homeport.sdk.preload.effects import MISSING, STANDARD, Snapshot
from homeport.sdk.preload.hooks import Hooks
from homeport.sdk.preload.record import Record, stamp
from homeport.sdk.preload.registries import Registries
from homeport.sdk.preload.repeats import repeat
from homeport.sdk.preload.shelf import Shelf
from homeport.sdk.preload.users import is_users

#: Modules that draw random numbers at import, in a way that no script can notice.
HARMLESS = (
    "numpy.random",  # seeded again in each forked process (`reseed`)
    "multiprocessing.process",  # seeded again too
    "opentelemetry.",  # names of keys in a dictionary of this process
    "rich.",  # numbers of links in a terminal
    "joblib._multiprocessing_helpers",  # the name of a semaphore that is removed at once
)
#: Modules that read all variables to find those with a prefix, which is one of `SILENTLY_READ`.
OF_PREFIX = {"tqdm.std": "TQDM_"}  # by `tqdm.utils.envwrap`; PyTorch imports it
NUMPY_BITS = 128  # the size of the seed of numpy's generators (SeedSequence)
NATIVE = (".so", ".pyd")
_where = os.getcwd  # hooks.py replaces it
#: Names in `sys.modules` of state that all Cython modules share; they are not modules.
SHARED = ("_cython_", "cython_runtime")
#: Besides Python's own modules, these have machine code that reads no variables during the import.
QUIET = {
    *STANDARD,
    "httptools",
    "markupsafe",
    "pydantic_core",
    "uvloop",
    "watchfiles",
    "websockets",
}


class _Unlike(BaseException):
    """A module on the shelf differs from what an import would load now."""


class Recorder:
    """Fills a shelf, one module with its imports after the other.

    One class, because every hook writes to the record of the same import.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        source: str = "",
        own: Iterable[str] = (),
        avoid: Iterable[str] = (),
    ) -> None:
        """`source` is the directory of the user's own modules, which are never run here.

        `own` are variables that differ between the processes that will be forked. `avoid` are modules that
        must not be imported, also if another module needs them.
        """
        self._avoid = frozenset(avoid)
        self._own = frozenset(own)
        self.shelf = shelf
        self._source = source.rstrip("/")
        records = shelf.records.values()
        self._base = set(sys.modules) - set(shelf.records)
        self._count = max((record.order for record in records), default=0)
        self._when = max((event[0] for record in records for event in record.events), default=0)
        shelf.settle(source)
        shelf.first()
        self._before = Snapshot()
        self._known_generators: set[int] = set()
        self._entropy: set[int] = set()  # the seeds that numpy's generators drew
        self._undo: list[Callable[[], Any]] = []
        # The state of the current import:
        self._stack: list[Record] = []  # the modules whose code runs, the innermost last
        self._seen: set[str] = set()
        self._fresh: list[Record] = []
        self._unsafe = ""
        self._seeded: list[tuple[random.Random, Any]] = []
        self._drew: list[Record] = []  # the modules that have made a generator of numpy
        self._asked_pid = False
        self._registries = Registries()
        self._numbers: Any = ()
        self._hooks = Hooks(self)

    def knows(self, name: str) -> bool:
        """Return whether a module is loaded already, on the shelf or in `sys.modules`."""
        return name in self.shelf.records or name in sys.modules

    def load(self, *names: str) -> str:
        """Import modules and put them on the shelf. Return why one of them is unsafe; empty if all are safe.

        After an unsafe module, the process must not be used. A module that cannot be imported is left
        out: the script's own import will raise the error. Several at once take less time than one after the
        other, because the process is compared before and after all of them; but nothing says which one is unsafe.
        """
        names = tuple(name for name in names if not self.knows(name))
        if not names:
            return ""
        self._stack, self._fresh, self._unsafe = [Record("")], [], ""
        self._seeded, self._drew, self._asked_pid = [], [], False
        self._registries, self._numbers = Registries(), random.getstate()
        self._before = Snapshot(self._all(), self._find)
        watch = loaded.Forkable()
        self.shelf.changed, self.shelf.repeat, self.shelf.looks = _raise, self._repeat, self.looks
        self.shelf.settle(self._source)
        self._hooks = hooks = Hooks(self)
        try:
            for before in self.shelf.roots:  # the script imports them first too
                importlib.import_module(before)
            self._seen = set(sys.modules)
            with hooks:
                for name in names:
                    self._guard()
                    _try(name)
        except _Unlike as unlike:
            self._unsafe = str(unlike)
        self._sweep()
        reason = self._unsafe or self._drawn() or watch.left_behind()
        reason = reason or self._registries.differ()
        self._find_patches()
        reason = reason or self._find_generators()
        self._put_away()
        reason = reason or self._before.changed()
        if not reason:
            self.shelf.roots += [name for name in names if name in self.shelf.records]
        return reason

    # called by the hooks

    def did(self, what: str, *args: Any) -> None:
        """Record an action that can be repeated."""
        self._when += 1
        self._stack[-1].events.append((self._when, what, args))
        if what == "write":
            self.shelf.wrote(*args)
        elif what == "codec":
            self._undo.append(functools.partial(codecs.unregister, *args))

    def read(self, name: str, value: "str | None") -> None:
        """Record the read of a variable; only the first read counts."""
        if not name.startswith(OF_PREFIX.get(self._stack[-1].name, "")):
            return
        if name in self._own:
            self.spoil(f"it reads {name}, which differs in each container")
        events = self._stack[-1].events
        if not any(what in ("read", "write") and args[0] == name for _, what, args in events):
            self.did("read", name, value)

    def read_all(self) -> None:
        """Record that a module read all variables."""
        running = self._stack[-1]
        if running.name in OF_PREFIX:
            running.native = True  # so those with its prefix are compared, also new ones
        else:
            self.spoil("it reads all environment variables")

    def spoil(self, reason: str) -> None:
        """Record an action that can be neither repeated nor left out: the module is unsafe."""
        running = self._stack[-1].name
        self._unsafe = self._unsafe or (f"`{running}`: {reason}" if running else reason)

    def drew(self, data: bytes) -> None:
        """Record that a module drew these random bytes."""
        caller = sys._getframe(2)  # noqa: SLF001
        if caller.f_code.co_name == "getrandbits" and caller.f_locals.get("k") == NUMPY_BITS:
            self._drew.append(self._stack[-1])
            self._entropy.add(int.from_bytes(data, "big"))
        elif not self._is_harmless(caller):
            self.spoil("it draws random numbers while it is imported")

    def _is_harmless(self, frame: "FrameType | None") -> bool:
        """Return whether a frame of the stack belongs to a module in `HARMLESS`."""
        while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
            if str(frame.f_globals.get("__name__")).startswith(HARMLESS):
                return True
            frame = frame.f_back
        return self._stack[-1].name.startswith(HARMLESS)

    def asked_pid(self) -> None:
        """Record that a module asked for the process id."""
        self._asked_pid = True

    def asked_cwd(self) -> None:
        """Record that a module asked for the working directory."""
        if self._stack[-1].name != "multiprocessing.process":  # see `reseed`
            self._stack[-1].asks_cwd = True

    def opened(self, path: str) -> None:
        """Record that a module opened a file; the user's own files differ between revisions."""
        if not path.startswith("/") or is_users(path, self._source):
            self._stack[-1].reads_users = True

    def seeded(self, numbers: random.Random) -> None:
        """Record that a generator of random numbers has seeded itself."""
        if not self._is_harmless(sys._getframe(2)):  # noqa: SLF001
            self._seeded.append((numbers, numbers.getstate()))
            self.did("seed", numbers)

    def imported(self, name: str) -> None:
        """Record that the module imported another one."""
        self._stack[-1].needs[name] = None

    def warned(self) -> None:
        """Record a warning; whether it is shown depends on the filters."""
        self._stack[-1].warned = True

    def filtered(self, item: "tuple[Any, ...]", *, append: bool) -> None:
        """Record that a warning filter was added."""
        self.did("filter", item, append)
        self._registries.expect(item, append=append)

    def looks(self, name: str) -> None:
        """Record a search for a module that is not loaded."""
        self._stack[-1].looked.add(name.partition(".")[0])

    def loads(self, spec: Any, load: Callable[[Any], Any]) -> Any:
        """Run a module's code."""
        if spec.loader is self.shelf:
            self.imported(spec.name)
            return load(spec)
        if spec.name in self._avoid:
            raise _Unlike(
                f"it needs `{spec.name}`, and the script changes what that import depends on"
            )
        self._sweep()
        record = Record(spec.name)
        record.path = (spec.origin or "") if spec.has_location else ""
        if is_users(record.path, self._source):
            raise _Unlike(f"`{spec.name}` is the user's own")
        record.native |= record.path.endswith(NATIVE) and record.top not in QUIET
        record.cwd = _where()
        record.stamp = stamp(record.path) if record.path else None
        self._stack.append(record)
        self._seen.add(spec.name)
        try:
            module = load(spec)
        except BaseException:
            self._sweep()
            self._stack.pop()
            self._seen.discard(spec.name)
            self._stack[-1].absorb(record)
            raise
        self._sweep()
        self._stack.pop()
        self.imported(spec.name)
        self._keep(record, sys.modules.get(spec.name, module))
        return module

    # after an import

    def _keep(self, record: Record, module: Any) -> None:
        self._count += 1
        record.order, record.module = self._count, module
        self._hooks.unwrap(module)
        self.shelf.records[record.name] = record
        self.shelf.out.add(record.name)
        self._fresh.append(record)
        if record.top in STANDARD:  # from now on, a change by another module makes that one unsafe
            self._before.add(record.name, module)

    def _guard(self) -> None:
        """From now on, a change of what was loaded until now makes the module that changes it unsafe."""
        for record in self._fresh:
            if record.name not in self._before.modules:
                self._before.add(record.name, record.module)

    def _sweep(self) -> None:
        """Find changes that no hook has reported; they count as made by the running module."""
        if (numbers := random.getstate()) != self._numbers:
            self._numbers = numbers
            if not self._stack[-1].name.startswith(HARMLESS):
                self.spoil("it draws random numbers while it is imported")
        for cls, function in self._registries.pickling():
            self.did("pickling", cls, function)
        if len(sys.modules) == len(self._seen):
            return
        for name in [n for n in sys.modules if n not in self._seen]:
            if name not in self.shelf.out and not name.startswith(SHARED):
                self._keep(Record(name), sys.modules[name])
            self.imported(name)
        self._seen = set(sys.modules)

    def _repeat(self, what: str, args: "tuple[Any, ...]") -> None:
        """Repeat an action for a module that another import needs; skip actions for containers only."""
        if what == "filter":
            self._registries.expect(*args[:1], append=args[1])
        if what == "append":
            self._undo.append(functools.partial(patches.restore, what, args[0], args[1], MISSING))
        if what in ("patch", "class", "item"):
            holder, key, _ = args
            was = (vars(holder) if what == "class" else holder).get(key, MISSING)
            self._undo.append(functools.partial(patches.restore, what, holder, key, was))
        if what == "codec":
            self._undo.append(functools.partial(codecs.unregister, *args))
        if what not in ("exit", "seed", "generator"):
            repeat(what, args)

    def _has_pid(self) -> bool:
        """Return whether a module has kept this process's id."""
        pid = os.getpid()
        for record in self._fresh:
            attributes = dict(getattr(record.module, "__dict__", {}))
            inner = [vars(value) for value in attributes.values() if isinstance(value, type)]
            for values in (attributes, *inner):
                if any(type(value) is int and value == pid for value in list(values.values())):
                    return True
        return False

    def _find_patches(self) -> None:
        """Undo the changes in standard modules whose author is known: they come again with the author."""
        for patch in patches.since(self._before, {record.name: record for record in self._fresh}):
            self._when += 1
            patch.author.events.append(
                (self._when, patch.what, (patch.holder, patch.key, patch.new))
            )
            self._undo.append(patch.undo)

    def _find_generators(self) -> str:
        """Find numpy generators that have seeded themselves: each container seeds them again."""
        numpy = sys.modules.get("numpy.random")
        if not self._drew or numpy is None:
            return "it draws random numbers while it is imported" if self._drew else ""
        usual = numpy.mtrand._rand._bit_generator  # noqa: SLF001 - seeded again with the module
        for generator in [
            candidate for candidate in gc.get_objects() if isinstance(candidate, numpy.BitGenerator)
        ]:
            seeds = getattr(generator, "seed_seq", None) or getattr(generator, "_seed_seq", None)
            if getattr(seeds, "entropy", None) not in self._entropy:
                continue  # it has a fixed seed, so its numbers are the same everywhere
            if generator is not usual and id(generator) not in self._known_generators:
                self._known_generators.add(id(generator))
                self._when += 1
                for record in self._drew:
                    record.events.append((self._when, "generator", (generator,)))
        return ""

    def _drawn(self) -> str:
        if self._asked_pid and self._has_pid():
            return "it keeps the process id"
        if any(numbers.getstate() != state for numbers, state in self._seeded):
            return "it draws random numbers while it is imported"
        return ""

    def _put_away(self) -> None:
        for record in self._fresh:
            if record.name not in sys.modules:
                self.shelf.records.pop(record.name, None)
            else:
                record.module = sys.modules[record.name]
        self.shelf.put_away(
            [n for n in sys.modules if n not in self._base and not n.startswith(SHARED)]
        )
        self._registries.restore()
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def _find(self, name: str) -> Any:
        record = self.shelf.records.get(name)
        return record.module if record is not None else sys.modules.get(name)

    def _all(self) -> "list[tuple[str, Any]]":
        preloaded = [(name, record.module) for name, record in self.shelf.records.items()]
        return [*list(sys.modules.items()), *preloaded]


def _try(name: str) -> None:
    """Import a module if it can be imported."""
    try:
        importlib.import_module(name)
    except _Unlike:
        raise
    except BaseException:  # noqa: S110 - an import may end by anything, such as SystemExit
        pass


def _raise(reason: str, _names: Sequence[str]) -> NoReturn:
    raise _Unlike(reason)
