"""Keeps the use of the containers of each function, in files that are never larger together than a cap, and adds it up.

`usage/<number>.log` in the home has a line of JSON for each look at the containers (control/fleet/usage.py), the oldest
first; other environments than `main` have a folder each. A file has at most a quarter of the cap: then another one begins,
and the oldest is deleted.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from homeport.contract.api.series import FunctionSeries
from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.state import grids
from homeport.state.grids import Grids, Key, Window
from homeport.state.scope import MAIN, Scope, folder

CAP_BYTES = 16 * MIB  # of an environment: two days with 20 functions that always have a container
PARTS = 4
FIRST = 1_000_001  # so that names sort as numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The use of the containers of one function since the last look."""

    app: str
    function: str
    containers: int  # at this moment
    cold_starts: int
    failed_starts: int
    cpu_s: float
    memory_mib: int  # at this moment
    gpu_memory_mib: int


_FIELDS = tuple(field.name for field in dataclasses.fields(Sample))


class Usages:
    """The use in all environments. Its methods block: call them in a thread."""

    def __init__(
        self, root: Path, cap_bytes: int = CAP_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root
        self._part_bytes = cap_bytes // PARTS
        self._grids = Grids(self._written, Reading, Row, clock)
        self._writing = threading.Lock()
        self._failing = False
        self.drop_idle = self._grids.drop_idle

    def add(self, at: float, span_s: float, samples: Mapping[Scope, Sequence[Sample]]) -> None:
        """Keep the use in the `span_s` seconds before `at`; on a full disk it is lost."""
        try:
            with self._writing:
                for scope, samples_of_scope in samples.items():
                    rows = [
                        [getattr(sample, name) for name in _FIELDS] for sample in samples_of_scope
                    ]
                    line = json.dumps([round(at, 3), round(span_s, 3), rows], separators=(",", ":"))
                    self._append(scope, f"{line}\n".encode())
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("what containers use is not recorded: %s", error.strerror)
            self._failing = True

    def functions(
        self, scope: Scope, wanted: Window, wants: Callable[[str, str], bool]
    ) -> tuple[Window, tuple[FunctionSeries, ...]]:
        """Return the series of an environment's functions, and the steps that they have.

        `wants` gets an app and a function. The steps are longer than wanted if there would be too many.
        """

        def series_of_rows(
            steps: Window, rows: list[tuple[Key, Row, int]]
        ) -> tuple[Window, tuple[FunctionSeries, ...]]:
            return steps, tuple(row.series(*key, begin, steps) for key, row, begin in rows if wants(*key))  # fmt: skip

        result: tuple[Window, tuple[FunctionSeries, ...]] = self._grids.rows(
            scope, wanted, series_of_rows
        )
        return result

    def remove(self, scope: Scope) -> None:
        """Remove the recorded use of a deleted environment."""
        with self._writing:
            if scope != MAIN:
                shutil.rmtree(self._root / folder(scope), ignore_errors=True)

    def _written(self, scope: Scope) -> list[Path]:
        return sorted((self._root / folder(scope)).glob("*.log"), reverse=True)

    def _append(self, scope: Scope, line: bytes) -> None:
        directory = self._root / folder(scope)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = sorted(directory.glob("*.log"))
        path = there[-1] if there else directory / f"{FIRST}.log"
        if there and path.stat().st_size + len(line) > self._part_bytes:
            path = directory / f"{int(path.stem) + 1}.log"
            for old in there[: max(len(there) - PARTS + 1, 0)]:
                old.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash or a full disk has left half a line
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class Reading(grids.Reading):
    """How a file is read."""

    def entries(self, line: str) -> Iterator[tuple[int, Key, Sequence[float]]]:
        """Yield the use of each function, in each step that the time before the look is part of."""
        with contextlib.suppress(ValueError, TypeError, IndexError):  # half a line
            at, span_s, rows = json.loads(line)
            end, span = int(at * 1000), max(int(span_s * 1000), 1)
            steps = [*range((end - span) // self.step_ms, (end - 1) // self.step_ms + 1)]
            for number in steps[-10:]:  # not more than there can be: a look is every 15 seconds
                begin = number * self.step_ms
                share = (min(begin + self.step_ms, end) - max(begin, end - span)) / span
                is_last = number == steps[-1]
                for app, function, containers, cold, failed, cpu_s, memory, gpu_memory in rows:
                    starts = (cold, failed) if is_last else (0, 0)
                    used = (containers, *starts, cpu_s * share, memory, gpu_memory)
                    yield number, (app, function), used


class Row(grids.Row):
    """What one function used."""

    __slots__ = ("_columns",)

    def __init__(self) -> None:
        #: The most containers, cold starts, failed starts, seconds, and the most MiB of both memories.
        self._columns: tuple[list[float], ...] = tuple([] for _ in range(6))

    def add(self, at: int, entry: Sequence[float]) -> None:
        more = at + 1 - len(self._columns[0])
        if more > 0:
            for column in self._columns:
                column.extend([0] * more)
        containers, cold, failed, cpu_s, memory, gpu_memory = self._columns
        containers[at] = max(containers[at], entry[0])
        cold[at] += entry[1]
        failed[at] += entry[2]
        cpu_s[at] += entry[3]
        memory[at] = max(memory[at], entry[4])
        gpu_memory[at] = max(gpu_memory[at], entry[5])

    def forget(self, count: int) -> bool:
        for column in self._columns:
            del column[:count]
        return bool(self._columns[0])

    def any(self, begin: int, count: int) -> bool:
        return any(any(column[begin : begin + count]) for column in self._columns[:3])

    def series(self, app: str, function: str, begin: int, steps: Window) -> FunctionSeries:
        """Return the numbers of these steps."""
        end = begin + steps.steps
        missing = [0] * max(end - max(len(self._columns[0]), begin), 0)
        containers, cold, failed, cpu_s, memory, gpu_memory = (
            (*column[begin:end], *missing) for column in self._columns
        )
        return FunctionSeries(
            app=app,
            function=function,
            containers=_whole(containers),
            cold_starts=_whole(cold),
            failed_starts=_whole(failed),
            cpu_cores=tuple(round(seconds / steps.step_s, 3) for seconds in cpu_s),
            memory_mib=_whole(memory),
            gpu_memory_mib=_whole(gpu_memory),
        )


def _whole(numbers: Sequence[float]) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers)
