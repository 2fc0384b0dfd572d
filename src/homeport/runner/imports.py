"""Measures which modules take long to import while a container starts.

The import system calls one function for each module that is not loaded yet: for an import statement, for
`importlib.import_module`, for the parent of a submodule. While a container starts, that function is
replaced by one that takes the time; `python -X importtime` measures at the same point. Modules that a
zygote has loaded do not reach it.
"""

import sys
import threading
import time
from collections.abc import Callable
from importlib import _bootstrap
from typing import Any

from homeport.sdk.preload.users import is_users

WATCHED = "_find_and_load"
LEAST_MS = 1.0
KEPT = 10


class ImportTimes:
    """The milliseconds of the slowest modules, each with the imports that it makes itself."""

    def __init__(self) -> None:
        self._ms: dict[str, float] = {}
        self._under_way: list[str] = []  # the modules that are being imported, the innermost last
        self._source = ""
        self._original: Any = None
        self.by_users_modules: dict[
            str, None
        ] = {}  # the modules that the user's own modules import, in order

    def begin(self, source: str) -> None:
        """Measure this thread's imports from now on; files below `source` are the user's own."""
        original: Any = getattr(_bootstrap, WATCHED, None)
        code = getattr(original, "__code__", None)
        if code is None or self._original is not None:
            return
        self._original, self._source = original, source
        thread = threading.get_ident()
        under_way, ended = self._under_way, self._ended
        imported, is_users = self.by_users_modules, self._is_users

        def watched(name: str, *arguments: Any) -> Any:
            if threading.get_ident() != thread:
                return original(name, *arguments)
            began = time.perf_counter()
            if not under_way or is_users(under_way[-1]):
                imported[name] = None
            under_way.append(name)
            try:
                return original(name, *arguments)
            finally:
                ended(began)

        # Python removes the import system's frames from tracebacks, and recognises them by their file.
        watched.__code__ = watched.__code__.replace(
            co_filename=code.co_filename, co_name=code.co_name
        )
        setattr(_bootstrap, WATCHED, watched)

    def time(self, name: str, load: Callable[[], None]) -> None:
        """Measure the load of a module that the import system does not load: the user's script."""
        began = time.perf_counter()
        self._under_way.append(name)
        try:
            load()
        finally:
            self._ended(began)

    def end(self) -> dict[str, float]:
        """Stop measuring; return the slowest modules with their milliseconds, the slowest first."""
        if self._original is not None:
            setattr(_bootstrap, WATCHED, self._original)
            self._original = None
        slowest = sorted(self._ms.items(), key=lambda item: -item[1])
        return dict(slowest[:KEPT])

    def _ended(self, began: float) -> None:
        ms = round((time.perf_counter() - began) * 1000, 1)
        name = self._under_way.pop()
        if ms < LEAST_MS:
            return
        # A package's modules count as the package, except the user's own: the user can change each.
        package = name.partition(".")[0]
        inside = any(package == outer.partition(".")[0] for outer in self._under_way)
        if not inside or self._is_users(name):
            self._ms[name] = max(ms, self._ms.get(name, 0.0))

    def _is_users(self, name: str) -> bool:
        return is_users(getattr(sys.modules.get(name), "__file__", None) or "", self._source)
