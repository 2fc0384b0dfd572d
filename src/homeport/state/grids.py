"""Adds up the lines of files, by a key and by steps of time: the base of `traffic` and `usage`.

Files that are only appended to are the history. A grid has what those of one environment tell since some time, in steps of
one length. The first question reads the files, later ones only what was added since. A grid that nobody has asked for a
while is dropped, and without questions nothing is computed.
"""

import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from homeport.contract.dataclass import dataclass
from homeport.state.scope import Scope

STEPS_S = (10, 60, 300, 900, 3600)
MOST_STEPS = 1_500  # of an answer
MOST_CELLS = 50_000  # steps of all rows together
IDLE_S = 120.0  # a grid is dropped when it was not used for so long
MOST_GRIDS = 4
HEAD_BYTES = 64 * 1024  # of a file, in which its first entry is
BEGINNING_BYTES = 1024  # by which a file is known again: it has a time, or an id
AT_ONCE = 5_000  # lines between two pauses, for the other threads
BREATH_S = 0.001

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Window:
    """The steps of an answer: from step number `first` to `last`, which is included."""

    step_s: int
    first: int
    last: int

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.last - self.first + 1

    @property
    def begin(self) -> float:
        """When the first one begins."""
        return float(self.first * self.step_s)

    @property
    def end(self) -> float:
        """When the last one ends."""
        return float((self.last + 1) * self.step_s)


def window(since: float, until: float, step_s: int) -> Window:
    """PURE: return the steps between two times, at least as long as `step_s`, and not too many of them.

    >>> window(1000.0, 1119.0, 30)
    Window(step_s=60, first=16, last=18)
    """
    least = max(step_s, (until - since) / MOST_STEPS)
    chosen = next((step for step in STEPS_S if step >= least), STEPS_S[-1])
    first = int(since // chosen)
    return Window(chosen, first, max(math.ceil(until / chosen) - 1, first))


def fitting(time_window: Window, rows: int) -> Window:
    """PURE: return the same time in longer steps, if so many rows would have too many steps together.

    >>> fitting(Window(60, 0, 1439), 100)
    Window(step_s=300, first=0, last=287)
    """
    while time_window.steps * rows > MOST_CELLS and time_window.step_s < STEPS_S[-1]:
        longer = STEPS_S[STEPS_S.index(time_window.step_s) + 1]
        time_window = window(time_window.begin, time_window.end, longer)
    return time_window


class Reading(ABC):
    """How a file is read: the position up to which it was read, and the values of the lines up to there."""

    def __init__(self, step_ms: int) -> None:
        self.step_ms = step_ms
        self._offset = 0
        self._beginning = b""

    @abstractmethod
    def entries(self, line: str) -> Iterator[tuple[int, Key, Any]]:
        """Yield the contents of a line: the number of the step, the key, and the argument of `Row.add`."""

    def is_of(self, path: Path) -> bool:
        """Return whether the file is the one that was read before, and not another one of its name."""
        return _beginning(path)[: len(self._beginning)] == self._beginning

    def added(self, path: Path) -> Iterator[tuple[int, Key, Any]]:
        """Yield the contents of the whole lines that were added since."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size <= self._offset:
                    return
                file.seek(self._offset)
                text = file.read()
        except OSError:  # it was deleted meanwhile
            return
        text = text[: text.rfind(b"\n") + 1]
        if self._offset == 0:
            self._beginning = text[:BEGINNING_BYTES]
        self._offset += len(text)
        for number, line in enumerate(text.decode("utf-8", "replace").split("\n")[:-1], 1):
            if number % AT_ONCE == 0:
                time.sleep(BREATH_S)
            yield from self.entries(line)


class Row(ABC):
    """The numbers of one key: one for each step of the grid, until the last step with an entry."""

    __slots__ = ()

    @abstractmethod
    def add(self, at: int, entry: Any) -> None:
        """Add an entry to a step."""

    @abstractmethod
    def forget(self, count: int) -> bool:
        """Forget the first steps; return whether anything is left."""

    @abstractmethod
    def any(self, begin: int, count: int) -> bool:
        """Return whether some of these steps has an entry."""


R = TypeVar("R", bound=Row)
FilesOf = Callable[[Scope], Sequence[Path]]


class Grids(Generic[R]):
    """The grids of all environments. Its methods block: call them in a thread."""

    def __init__(
        self,
        files: FilesOf,
        new_reading: Callable[[int], Reading],
        new_row: Callable[[], R],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`files` returns those of an environment, the newest first."""
        self._files = files
        self._new_reading = new_reading
        self._new_row = new_row
        self._clock = clock
        self._grids: dict[tuple[Scope, int], _Grid[R]] = {}
        self._rows: dict[Scope, int] = {}  # how many keys the last answer had
        self._lock = threading.Lock()

    def rows(
        self, scope: Scope, wanted: Window, work: Callable[[Window, list[tuple[Key, R, int]]], Any]
    ) -> Any:
        """Return what `work` makes of the rows that were not quiet, by their keys, each with the place of its first step.

        The steps are longer than wanted if there would be too many. `work` runs while the rows do not change.
        """
        with self._lock:
            self._drop_idle()
            wanted = fitting(wanted, self._rows.get(scope, 0))
            grid = self._grid(scope, wanted)
            while (longer := fitting(wanted, len(grid.rows))) != wanted:
                del self._grids[scope, wanted.step_s]
                wanted = longer
                grid = self._grid(scope, wanted)
            self._rows[scope] = len(grid.rows)
            begin = wanted.first - grid.first
            loud = [
                (key, row, begin)
                for key, row in sorted(grid.rows.items())
                if row.any(begin, wanted.steps)
            ]
            return work(wanted, loud)

    def drop_idle(self) -> None:
        """Drop grids that were not used for a while. It does not block: a running question does the same at its end."""
        if self._lock.acquire(blocking=False):
            try:
                self._drop_idle()
            finally:
                self._lock.release()

    def _drop_idle(self) -> None:
        now = self._clock()
        for key, grid in list(self._grids.items()):
            if not now - IDLE_S < grid.asked_at <= now:
                del self._grids[key]
        if not self._grids:
            self._rows.clear()

    def _grid(self, scope: Scope, wanted: Window) -> "_Grid[R]":
        """Return the grid with these steps, with everything that is kept."""
        key = scope, wanted.step_s
        paths = self._files(scope)
        grid = self._grids.pop(key, None)
        if grid is None or grid.first > wanted.first or grid.is_of_others(paths):
            grid = _Grid(wanted, self._new_reading, self._new_row)
        self._grids[key] = grid  # the last one asked is last
        while len(self._grids) > MOST_GRIDS:
            del self._grids[next(iter(self._grids))]
        grid.ask(wanted, self._clock())
        grid.read(paths, int(grid.asked_at // wanted.step_s) + 1)
        return grid


class _Grid(Generic[R]):
    """The sums of one environment's files, by key and step."""

    def __init__(
        self, time_window: Window, new_reading: Callable[[int], Reading], new_row: Callable[[], R]
    ) -> None:
        self.first = time_window.first  # the number of the first step
        self.asked_at = 0.0
        self.rows: dict[Key, R] = {}
        self._step_ms = time_window.step_s * 1000
        self._new_reading = new_reading
        self._new_row = new_row
        self._spans: dict[int, float] = {}  # how far back a question looked -> when
        self._files: dict[Path, Reading] = {}

    def is_of_others(self, paths: Sequence[Path]) -> bool:
        """Return whether its files were deleted, all of them: an environment may have the name of an earlier one."""
        read_files = [(path, self._files[path]) for path in paths if path in self._files]
        if self._files and not read_files:
            return True
        return not all(reading.is_of(path) for path, reading in read_files)

    def ask(self, time_window: Window, now: float) -> None:
        """Record a question; drop steps that no recent question needed, if they are many: each row changes."""
        self.asked_at = now
        newest = int(now * 1000 // self._step_ms)
        self._spans[newest - time_window.first] = now
        self._spans = {
            span: asked_at
            for span, asked_at in self._spans.items()
            if now - IDLE_S < asked_at <= now
        }
        span = max(self._spans)
        first_kept = newest - span - self.first
        if first_kept > span // 2 + 1:
            self.first += first_kept
            self.rows = {key: row for key, row in self.rows.items() if row.forget(first_kept)}

    def read(self, paths: Sequence[Path], newest: int) -> None:
        """Read what was added to the files, which come the newest first. Later steps than `newest` are mistakes."""
        chosen = []
        for path in paths:
            chosen.append(path)
            if path not in self._files and self._first_step(path) < self.first:
                break
        self._files = {
            path: self._files.get(path) or self._new_reading(self._step_ms)
            for path in paths
            if path in self._files or path in chosen
        }
        for path in reversed(chosen):
            for number, key, entry in self._files[path].added(path):
                if self.first <= number <= newest:
                    row = self.rows.get(key)
                    if row is None:
                        row = self.rows[key] = self._new_row()
                    row.add(number - self.first, entry)

    def _first_step(self, path: Path) -> float:
        """Return the step of a file's first entry; infinity for a file without one."""
        try:
            with path.open("rb") as file:
                text = file.read(HEAD_BYTES)
        except OSError:
            return math.inf
        reading = self._new_reading(self._step_ms)
        for line in text.decode("utf-8", "replace").split("\n")[:-1]:
            for number, _key, _entry in reading.entries(line):
                return number
        return math.inf


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(BEGINNING_BYTES)
    except OSError:
        return b""
