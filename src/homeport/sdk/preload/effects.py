"""Finds what an import has changed outside its own modules.

A zygote compares the state before a module was imported with the state after the module was put on the
shelf and its effects were undone (recorder.py, shelf.py). A script that never imports the module would see
a remaining difference, so such a module is not preloaded.

Not found: state inside C code, registrations with abstract classes, functions given to
`os.register_at_fork`, and changes deeper than one level in a list, set or dictionary of a module.
"""

import _locale
import contextlib
import copyreg
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from types import FunctionType, ModuleType
from typing import Any

MISSING = object()
Find = Callable[[str], Any]
STANDARD = frozenset(sys.stdlib_module_names)

#: Attributes of standard modules that are caches, or that the runner sets again in each container.
CACHES = {
    "_csv": {"_dialects"},  # see `csv` below
    "ctypes": {"_c_functype_cache", "_pointer_type_cache", "_win_functype_cache"},
    "_ctypes": {"_pointer_type_cache"},
    "gettext": {"_translations"},
    "inspect": {"_filesbymodname", "modulesbyfile"},
    "linecache": {"cache"},
    "logging": {"_handlerList", "_handlers"},
    "multiprocessing.process": {"ORIGINAL_DIR", "_parent_process", "_current_process"},
    "multiprocessing.util": {"_afterfork_registry"},
    "os": {"environ", "environb"},
    "platform": {"_os_release_cache", "_platform_cache", "_sys_version_cache", "_uname_cache"},
    "posixpath": {"_varprog", "_varprogb"},
    "random": {"_inst"},
    "re": {"_cache", "_cache2"},
    "struct": {"_cache"},
    "sys": {"last_exc", "last_traceback", "last_type", "last_value", "modules", "path_importer_cache"},
    "sysconfig": {"_CONFIG_VARS", "_CONFIG_VARS_INITIALIZED"},
    "tempfile": {"tempdir"},
    "threading": {"_active", "_counter", "_dangling", "_limbo", "_shutdown_locks", "_threading_atexits"},
    "typing": {"_cleanups", "_caches", "_overload_registry"},
    "warnings": {"_filters_version", "filters", "onceregistry"},
    "weakref": {"finalize"},
    "_warnings": {"_onceregistry", "filters"},
}  # fmt: skip
#: Public functions that a known package replaces by its own, which calls the previous one: PyTorch, for its `torch.package`.
REPLACED = ("inspect.getfile",)
#: Attributes of every module that the import system and `warnings` write.
MARKS = {"__warningregistry__", "__spec__", "__loader__", "__builtins__", "__cached__"}
#: The user's own module under its names, and the state that all Cython modules share.
ODD = ("__main__", "__mp_main__", "_cython_")
CLASS_MARKS = ("_abc_", "__abstract", "__annotat", "__weakref__")


class ModuleState:
    """The attributes of one module; for a standard module also the contents of its containers."""

    __slots__ = ("attributes", "classes", "contents", "is_standard", "module", "name")

    def __init__(self, name: str, module: ModuleType) -> None:
        self.name = name
        self.module = module
        self.attributes = dict(vars(module))
        self.contents: dict[str, Any] = {}
        self.classes: dict[str, dict[str, Any]] = {}
        self.is_standard = name.partition(".")[0] in STANDARD  # it comes with Python
        if not self.is_standard:
            return
        caches = CACHES.get(name, ())
        for key, value in self.attributes.items():
            kind = type(value)
            if kind in (dict, list, set):
                if not (key in caches or key in MARKS or value is copyreg.dispatch_table):
                    self.contents[key] = kind(value)
            elif isinstance(value, type) and value.__module__ == name and key not in caches:
                self.classes[key] = dict(vars(value))

    def patched(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield functions that may be replaced and were, and new attributes: name, old value, new value."""
        now = vars(self.module)
        for key in _differences(self.attributes, now) if self.is_standard else ():
            was, new = self.attributes.get(key, MISSING), now.get(key, MISSING)
            may = key.startswith("_") or f"{self.name}.{key}" in REPLACED
            both = isinstance(was, FunctionType) and isinstance(new, FunctionType)
            if was is MISSING or (may and both):
                yield key, was, new

    def patched_classes(self) -> Iterator[tuple[type, str, Any, Any]]:
        """Yield the same changes in its classes: class, name, old value, new value."""
        for key, attributes in self.classes.items():
            cls = self.attributes[key]
            now = vars(cls)
            for name in _differences(attributes, now):
                was, new = attributes.get(name, MISSING), now.get(name, MISSING)
                if was is MISSING or (name.startswith("_") and new is not MISSING):
                    yield cls, name, was, new

    def added(self) -> Iterator[tuple[dict[Any, Any], Any, Any]]:
        """Yield additions to its dictionaries: dictionary, key, value."""
        for name, content in self.contents.items():
            now = vars(self.module).get(name)
            if type(content) is dict and type(now) is dict and len(now) > len(content):
                yield from ((now, key, now[key]) for key in list(now) if key not in content)

    def longer(self) -> Iterator[tuple[str, list[Any], list[Any]]]:
        """Yield its lists with additions at their end: name, list, new items."""
        for name, content in self.contents.items():
            now = vars(self.module).get(name)
            if type(content) is list and type(now) is list and now[: len(content)] == content:
                yield name, now, now[len(content) :]

    def changed(self) -> str:
        """Return which attribute has changed, in words; empty if none has."""
        now, standard = vars(self.module), self.is_standard
        for key in _differences(self.attributes, now):
            if not self._may_change(key, now.get(key, self.attributes.get(key)), standard=standard):
                return f"it changes `{self.name}.{key}`"
        for key, content in self.contents.items():
            if _unequal(content, now.get(key)):
                return f"it changes what is in `{self.name}.{key}`"
        for key, attributes in self.classes.items():
            cls = self.attributes[key]
            for name in _differences(attributes, vars(cls)):
                if not name.startswith(CLASS_MARKS):
                    return f"it changes `{self.name}.{key}.{name}`"
        return ""

    def _may_change(self, key: str, value: Any, *, standard: bool) -> bool:
        if key in MARKS or key in CACHES.get(self.name, ()):
            return True
        if isinstance(value, ModuleType) and f"{self.name}.{key}" in _names(value):
            return True  # the shelf takes it away and restores it
        if key not in self.attributes and "__getattr__" in self.attributes:
            return True  # PEP 562: the module made the attribute when it was first read
        return not standard and key.startswith("_")  # usually a cache


class Snapshot:
    """The state of this process that an import may change."""

    def __init__(
        self, modules: Iterable[tuple[str, Any]] = (), find: Find = sys.modules.get
    ) -> None:
        """`find` returns a module by its name, loaded or preloaded."""
        self._find = find
        self.facts = _facts(find)
        self.modules: dict[str, ModuleState] = {}
        for name, module in modules:
            self.add(name, module)

    def add(self, name: str, module: Any) -> None:
        """Add a module that has just been loaded."""
        if isinstance(module, ModuleType) and not name.startswith(ODD):
            self.modules[name] = ModuleState(name, module)

    def standard(self) -> list[ModuleState]:
        """Return the states of the modules that come with Python."""
        return [state for state in self.modules.values() if state.is_standard]

    def changed(self) -> str:
        """Return the first difference, as text; empty if there is none."""
        now = _facts(self._find)
        for what, fact in self.facts.items():
            if now[what] != fact:
                return f"it changes {what}" if what != PRINTS else "it prints while it is imported"
        for state in self.modules.values():
            if reason := state.changed():
                return reason
        return ""


PRINTS = "what is printed"


def _names(module: ModuleType) -> tuple[str, str]:
    """Return the name that a module has itself, and the name by which it is imported.

    They differ for machine code (websockets' `speedups`), and for `importlib._bootstrap`, which was frozen under another name.
    """
    spec = getattr(module, "__spec__", None)
    return module.__name__, spec.name if spec else module.__name__


def _differences(was: dict[str, Any], now: Mapping[str, Any]) -> list[str]:
    with contextlib.suppress(Exception):  # the object's own `__eq__` may raise
        if was == now:
            return []
    return [key for key in {**was, **now} if _unequal(was.get(key, MISSING), now.get(key, MISSING))]


def _unequal(first: Any, second: Any) -> bool:
    if first is second:
        return False
    try:
        return bool(first != second)
    except Exception:
        return True


def _facts(find: Find) -> dict[str, Any]:
    """Return state that is in no module's attributes."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    facts: dict[str, Any] = {
        "signal handlers": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "which signals are blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "logging": [_logger(logger) for logger in (logging.root, *_loggers())],
        "the levels of logging": (dict(logging._levelToName), logging.root.manager.disable),  # noqa: SLF001
        "`sys.meta_path`": list(sys.meta_path),
        "`sys.path_hooks`": list(sys.path_hooks),
        "`sys.path`": list(sys.path),
        "`sys.argv`": list(sys.argv),
        "a limit of the interpreter": (
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            threading.stack_size(),
            getattr(sys, "get_int_max_str_digits", int)(),
        ),
        "what traces the code": (sys.gettrace(), sys.getprofile(), sys.get_asyncgen_hooks()),
        "the garbage collection": (
            gc.isenabled(),
            gc.get_threshold(),
            gc.get_debug(),
            list(gc.callbacks),
        ),
        "the working directory": os.getcwd(),  # noqa: PTH109
        "the umask or a limit": _limits(),
        "the cores it runs on": sorted(cores),
        "the environment variables": dict(os.environ._data),  # type: ignore[attr-defined] # noqa: SLF001
        "the warning filters": list(warnings.filters),
        "context variables": _context(),
        PRINTS: _printed(),
    }
    return {**facts, **_facts_of_modules(find)}


#: The first state of a standard module, for a process that has not imported it before.
BEGINNINGS: dict[str, Any] = {
    "the sockets' timeout": None,
    "the locale": _locale.setlocale(_locale.LC_ALL, None),
    "the decimal context": (
        28,
        "ROUND_HALF_EVEN",
        -999999,
        999999,
        1,
        0,
        ["DivisionByZero", "InvalidOperation", "Overflow"],
    ),
    "multiprocessing's start method": None,
    "faulthandler": False,
    "csv": (131072, ["excel", "excel-tab", "unix"]),
}


def _facts_of_modules(find: Find) -> dict[str, Any]:
    facts = dict(BEGINNINGS)
    if module := find("_socket"):
        facts["the sockets' timeout"] = module.getdefaulttimeout()
    if module := find("multiprocessing.context"):
        method = module._default_context.get_start_method(allow_none=True)  # noqa: SLF001
        facts["multiprocessing's start method"] = method
    if module := find("faulthandler"):
        facts["faulthandler"] = module.is_enabled()
    if module := find("csv"):
        facts["csv"] = (module.field_size_limit(), sorted(module.list_dialects()))
    if module := find("_locale"):
        facts["the locale"] = module.setlocale(module.LC_ALL, None)
    if module := find("decimal"):
        for context in (module.getcontext(), module.DefaultContext):
            facts["the decimal context"] = decimals = _decimals(context)
            if decimals != BEGINNINGS["the decimal context"]:
                break
    return facts


def _decimals(context: Any) -> tuple[Any, ...]:
    """Return all of a decimal context except the flags, which each operation sets."""
    traps = sorted(signal.__name__ for signal, is_set in context.traps.items() if is_set)
    return (
        context.prec,
        context.rounding,
        context.Emin,
        context.Emax,
        context.capitals,
        context.clamp,
        traps,
    )


def _loggers() -> list[logging.Logger]:
    loggers = logging.root.manager.loggerDict.items()
    return [
        logger for _, logger in sorted(loggers, key=_name) if isinstance(logger, logging.Logger)
    ]


def _name(pair: tuple[str, Any]) -> str:
    return pair[0]


def _logger(logger: logging.Logger) -> tuple[Any, ...]:
    return (
        logger.name, logger.level, list(logger.handlers), list(logger.filters), logger.propagate,
        logger.disabled, type(logger),
    )  # fmt: skip


def _limits() -> str:
    """Return limits and umask from /proc: a system call cannot read the umask without setting it (proc(5))."""
    with contextlib.suppress(OSError):
        text = ""
        for name in ("status", "limits"):
            with open(f"/proc/self/{name}", encoding="utf-8") as file:  # noqa: PTH123
                text += file.read()
        return "".join(line for line in text.splitlines() if line.startswith(("Umask", "Max ")))
    return ""


def _context() -> dict[str, Any]:
    context = copy_context()
    return {
        variable.name: context[variable]
        for variable in context
        if variable.name != "decimal_context"
    }


def _printed() -> tuple[int, ...]:
    """Return the sizes of the files that stdout and stderr go to, if they go to files."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return tuple(os.fstat(number).st_size for number in (1, 2))
