"""Saves and restores lists of the standard library to which an import may add (recorder.py)."""

import copyreg
import logging
import os
import warnings
import weakref
from typing import Any

ENVIRON: Any = os._Environ  # noqa: SLF001 - os.environ may be watched


class Registries:
    """A copy of these lists, made at its construction."""

    def __init__(self) -> None:
        manager = logging.Logger.manager
        self._environ = dict(os.environ._data)  # type: ignore[attr-defined] # noqa: SLF001
        self._filters, self._expected = list(warnings.filters), list(warnings.filters)
        self._pickling, self._known = dict(copyreg.dispatch_table), set(copyreg.dispatch_table)
        self._loggers = dict(manager.loggerDict)
        self._finalizes = weakref.finalize._registered_with_atexit  # type: ignore[attr-defined] # noqa: SLF001
        self._parents = {
            name: logger.parent
            for name, logger in self._loggers.items()
            if isinstance(logger, logging.Logger)
        }
        self._children = {
            name: dict(placeholder.loggerMap)
            for name, placeholder in self._loggers.items()
            if isinstance(placeholder, logging.PlaceHolder)
        }

    def pickling(self) -> "list[tuple[Any, Any]]":
        """Return the classes that have got a pickling function since the last call."""
        table = copyreg.dispatch_table
        if len(table) == len(self._known):
            return []
        new = [(cls, function) for cls, function in table.items() if cls not in self._known]
        self._known = set(table)
        return new

    def expect(self, item: "tuple[Any, ...]", *, append: bool) -> None:
        """Expect that this warning filter was added."""
        if append:
            if item not in self._expected:
                self._expected.append(item)
            return
        if item in self._expected:
            self._expected.remove(item)
        self._expected.insert(0, item)

    def differ(self) -> str:
        """Return which list has changed in another way than by an addition, in words; else empty."""
        if warnings.filters != self._expected:
            return "it changes the warning filters"
        table = copyreg.dispatch_table
        if any(table.get(cls) is not function for cls, function in self._pickling.items()):
            return "it changes how objects are pickled"
        return ""

    def restore(self) -> None:
        """Restore all lists."""
        if warnings.filters != self._filters:
            warnings.filters[:] = self._filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined] # noqa: SLF001
        weakref.finalize._registered_with_atexit = self._finalizes  # type: ignore[attr-defined] # noqa: SLF001
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(self._pickling)
        manager = logging.Logger.manager
        manager.loggerDict.clear()
        manager.loggerDict.update(self._loggers)
        for name, entry in self._loggers.items():
            if isinstance(entry, logging.Logger):
                entry.parent = self._parents[name]
            else:
                entry.loggerMap.clear()
                entry.loggerMap.update(self._children[name])
        manager._clear_cache()  # type: ignore[attr-defined] # noqa: SLF001
        now: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined] # noqa: SLF001
        for key in {*self._environ, *now}:
            name, was = os.fsdecode(key), self._environ.get(key)
            if was is None:
                ENVIRON.__delitem__(os.environ, name)
            elif was != now.get(key):
                ENVIRON.__setitem__(os.environ, name, os.fsdecode(was))
