"""Which modules take long to import while a container starts.

The import system calls one function for each module that is not loaded yet, whoever asks for it: a
statement, `importlib.import_module`, a submodule that needs its parent. While a container starts,
that function is watched, in the place where `python -X importtime` watches it too. What a zygote has
loaded already never gets there.
"""

import sys
import threading
import time
from collections.abc import Callable
from importlib import _bootstrap
from typing import Any

WATCHED = "_find_and_load"
LEAST_MS = 1.0
KEPT = 10


class ImportTimes:
    """Milliseconds by module, each with what it imports in turn; of the slowest few."""

    def __init__(self) -> None:
        self._ms: dict[str, float] = {}
        self._under_way: list[str] = []  # the innermost last
        self._source = ""
        self._original: Any = None
        self.asked: dict[str, None] = {}  # what the user's own modules import, in order

    def begin(self, source: str) -> None:
        """Watch this thread's imports; what lies in the directory `source` is the user's own."""
        original: Any = getattr(_bootstrap, WATCHED, None)
        code = getattr(original, "__code__", None)
        if code is None or self._original is not None:
            return
        self._original, self._source = original, source.rstrip("/") + "/"
        thread = threading.get_ident()
        under_way, ended = self._under_way, self._ended
        asked, is_users = self.asked, self._is_users

        def watched(name: str, *rest: Any) -> Any:
            if threading.get_ident() != thread:
                return original(name, *rest)
            began = time.perf_counter()
            if not under_way or is_users(under_way[-1]):
                asked[name] = None
            under_way.append(name)
            try:
                return original(name, *rest)
            finally:
                ended(began)

        # Python cuts the import system's frames out of tracebacks, and knows them by their file.
        watched.__code__ = watched.__code__.replace(
            co_filename=code.co_filename, co_name=code.co_name
        )
        setattr(_bootstrap, WATCHED, watched)

    def time(self, name: str, load: Callable[[], None]) -> None:
        """Load a module that does not come by the import system: the user's script."""
        began = time.perf_counter()
        self._under_way.append(name)
        try:
            load()
        finally:
            self._ended(began)

    def end(self) -> dict[str, float]:
        """Watch no more; the slowest modules, the slowest first."""
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
        # A package's own modules are part of it, except the user's, who can do something about each.
        package = name.partition(".")[0]
        inside = any(package == outer.partition(".")[0] for outer in self._under_way)
        if not inside or self._is_users(name):
            self._ms[name] = max(ms, self._ms.get(name, 0.0))

    def _is_users(self, name: str) -> bool:
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        return file.startswith(self._source)
