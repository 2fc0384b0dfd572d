"""Counts the kept requests by endpoint and time: how many, with which status, how long they took.

The files of the requests (state/requests.py) are the history. A grid has one environment's requests since some time, in
steps of one length. The first question reads the files, later ones only what was added since. A grid that nobody has
asked for a while is dropped, and without questions nothing is computed.
"""

import bisect
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from homeport.contract import recorded
from homeport.contract.api.series import EndpointSeries
from homeport.contract.dataclass import dataclass
from homeport.contract.recorded import ENDED, ENDPOINT, FIRST, HOW, PARKED, SENT, STATUS, TOTAL
from homeport.state.requests import AT_ONCE, BREATH_S, Marks, Requests
from homeport.state.scope import Scope

STEPS_S = (10, 60, 300, 900, 3600)
MOST_STEPS = 1_500  # of an answer
MOST_CELLS = 50_000  # steps of all endpoints together
IDLE_S = 120.0  # a grid is dropped when nobody has asked for so long
MOST_GRIDS = 4
HEAD_BYTES = 64 * 1024  # of a file, in which its first request is
LEFT = "left"


def _bounds() -> list[int]:
    """Return where the buckets of durations begin, in milliseconds: one apart, later 7 % apart."""
    found = [0]
    while len(found) < 256:
        found.append(max(found[-1] + 1, round(found[-1] * 1.07)))
    return found


BOUNDS = _bounds()


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


def window(since: float, until: float, step_s: int) -> Window:
    """PURE: return the steps between two times, at least as long as `step_s`, and not too many of them.

    >>> window(1000.0, 1119.0, 30)
    Window(step_s=60, first=16, last=18)
    """
    least = max(step_s, (until - since) / MOST_STEPS)
    chosen = next((each for each in STEPS_S if each >= least), STEPS_S[-1])
    return Window(
        chosen, int(since // chosen), max(math.ceil(until / chosen) - 1, int(since // chosen))
    )


def fitting(wanted: Window, rows: int) -> Window:
    """PURE: return the same time in longer steps, if there would be too many steps of so many endpoints together.

    >>> fitting(Window(60, 0, 1439), 100)
    Window(step_s=300, first=0, last=287)
    """
    while wanted.steps * rows > MOST_CELLS and wanted.step_s < STEPS_S[-1]:
        longer = STEPS_S[STEPS_S.index(wanted.step_s) + 1]
        begin, end = wanted.first * wanted.step_s, (wanted.last + 1) * wanted.step_s
        wanted = window(begin, end, longer)
    return wanted


class Traffic:
    """The grids of all environments. Its methods block: call them in a thread."""

    def __init__(self, requests: Requests, clock: Callable[[], float] = time.time) -> None:
        self._requests = requests
        self._clock = clock
        self._grids: dict[tuple[Scope, int], _Grid] = {}
        self._rows: dict[Scope, int] = {}  # how many endpoints the last answer had
        self._lock = threading.Lock()

    def endpoints(
        self, scope: Scope, wanted: Window, wants: Callable[[str, str], bool]
    ) -> tuple[Window, tuple[EndpointSeries, ...]]:
        """Return the series of an environment's endpoints, and the steps that they have.

        `wants` gets an endpoint's app and tag. The steps are longer than wanted if there would be too many.
        """
        with self._lock:
            self._drop_idle()
            wanted = fitting(wanted, self._rows.get(scope, 0))
            grid = self._grid(scope, wanted)
            while (longer := fitting(wanted, grid.rows)) != wanted:
                del self._grids[scope, wanted.step_s]
                wanted = longer
                grid = self._grid(scope, wanted)
            self._rows[scope] = grid.rows
            return wanted, tuple(grid.series(wanted, wants))

    def drop_idle(self) -> None:
        """Drop grids that nobody has asked for a while. It does not block: a question that goes on does the same."""
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

    def _grid(self, scope: Scope, wanted: Window) -> "_Grid":
        """Return the grid with these steps, with everything that is kept."""
        key = scope, wanted.step_s
        grid = self._grids.pop(key, None)
        if grid is None or grid.first > wanted.first:
            grid = _Grid(wanted.step_s, wanted.first)
        self._grids[key] = grid  # the last one asked is last
        while len(self._grids) > MOST_GRIDS:
            del self._grids[next(iter(self._grids))]
        grid.ask(wanted, self._clock())
        newest = int(grid.asked_at // wanted.step_s) + 1
        grid.read(self._requests.written(scope), newest)
        return grid


class _Grid:
    """One environment's requests, by endpoint and step."""

    def __init__(self, step_s: int, first: int) -> None:
        self.first = first  # the number of the first step
        self.asked_at = 0.0
        self._step_ms = step_s * 1000
        self._spans: dict[int, float] = {}  # how far back somebody asked -> when
        self._files: dict[Path, _Position] = {}
        self._rows: dict[tuple[str, str], _Row] = {}

    def ask(self, wanted: Window, now: float) -> None:
        """Note a question; forget steps that nobody has asked for lately, if they are many: each row changes."""
        self.asked_at = now
        newest = int(now * 1000 // self._step_ms)
        self._spans[newest - wanted.first] = now
        self._spans = {
            span: asked for span, asked in self._spans.items() if now - IDLE_S < asked <= now
        }
        span = max(self._spans)
        gone = newest - span - self.first
        if gone > span // 2 + 1:
            self.first += gone
            self._rows = {place: row for place, row in self._rows.items() if row.forget(gone)}

    def read(self, paths: Sequence[Path], newest: int) -> None:
        """Read what was added to the files, which come the newest first. Later steps than `newest` are mistakes."""
        chosen = []
        for path in paths:
            chosen.append(path)
            if path not in self._files and _begin_ms(path) < self.first * self._step_ms:
                break
        self._files = {
            path: self._files.get(path) or _Position()
            for path in paths
            if path in self._files or path in chosen
        }
        for path in reversed(chosen):
            self._take(self._files[path], path, newest)

    def _take(self, position: "_Position", path: Path, newest: int) -> None:
        first, step_ms, rows = self.first, self._step_ms, self._rows
        for words in position.requests(path):
            number = int(words[ENDED]) // step_ms
            if not first <= number <= newest:
                continue
            place = position.marks.places.get(words[ENDPOINT], ("", ""))
            row = rows.get(place)
            if row is None:
                row = rows[place] = _Row()
            row.add(number - first, words)

    @property
    def rows(self) -> int:
        return len(self._rows)

    def series(self, wanted: Window, wants: Callable[[str, str], bool]) -> Iterator[EndpointSeries]:
        begin = wanted.first - self.first
        for (app, tag), row in sorted(self._rows.items()):
            if wants(app, tag) and row.any(begin, wanted.steps):
                yield row.series(app, tag, begin, wanted.steps)


class _Row:
    """One endpoint's requests: a number for each step of the grid, until the last step with a request."""

    __slots__ = ("_changed", "_cold", "_durations", "_high", "_middle", "_sent", "_statuses")

    def __init__(self) -> None:
        self._statuses: dict[str, list[int]] = {}
        self._cold: list[int] = []
        self._sent: list[int] = []
        self._durations: list[bytearray | None] = []  # the bucket of each request
        self._middle: list[int | None] = []  # the quantiles, but of the changed steps
        self._high: list[int | None] = []
        self._changed: set[int] = set()

    def add(self, at: int, words: Sequence[str]) -> None:
        if at >= len(self._cold):
            self._grow(at + 1 - len(self._cold))
        status = _class(words)
        counts = self._statuses.get(status)
        if counts is None:
            counts = self._statuses[status] = [0] * len(self._cold)
        counts[at] += 1
        durations = self._durations[at]
        if durations is None:
            durations = self._durations[at] = bytearray()
        durations.append(bisect.bisect_right(BOUNDS, int(words[TOTAL])) - 1)
        self._changed.add(at)
        if words[PARKED] != recorded.MISSING:
            self._cold[at] += 1
        if words[SENT].isdigit():
            self._sent[at] += int(words[SENT])

    def forget(self, count: int) -> bool:
        """Forget the first steps; return whether anything is left."""
        for each in self._columns():
            del each[:count]
        self._statuses = {name: each for name, each in self._statuses.items() if any(each)}
        self._changed = {at - count for at in self._changed if at >= count}
        return bool(self._statuses)

    def any(self, begin: int, count: int) -> bool:
        return any(any(counts[begin : begin + count]) for counts in self._statuses.values())

    def series(self, app: str, tag: str, begin: int, count: int) -> EndpointSeries:
        for at in self._changed:
            durations = sorted(self._durations[at] or ())
            self._middle[at] = _quantile(durations, 0.5)
            self._high[at] = _quantile(durations, 0.99)
        self._changed.clear()
        end = begin + count
        missing = max(end - max(len(self._cold), begin), 0)
        none, nothing = [None] * missing, [0] * missing
        statuses = {name: self._statuses[name][begin:end] for name in sorted(self._statuses)}
        return EndpointSeries(
            app=app,
            tag=tag,
            by_status={name: (*each, *nothing) for name, each in statuses.items() if any(each)},
            p50_ms=(*self._middle[begin:end], *none),
            p99_ms=(*self._high[begin:end], *none),
            cold=(*self._cold[begin:end], *nothing),
            sent_bytes=(*self._sent[begin:end], *nothing),
        )

    def _columns(self) -> Iterable[list[int] | list[int | None] | list[bytearray | None]]:
        return (*self._statuses.values(), self._cold, self._sent, self._durations, self._middle, self._high)  # fmt: skip

    def _grow(self, more: int) -> None:
        for counts in (*self._statuses.values(), self._cold, self._sent):
            counts.extend([0] * more)
        self._durations.extend([None] * more)
        for quantiles in (self._middle, self._high):
            quantiles.extend([None] * more)


class _Position:
    """How far a file was read, and what its marks have said until there."""

    def __init__(self) -> None:
        self.marks = Marks()
        self._offset = 0

    def requests(self, path: Path) -> Iterator[list[str]]:
        """Yield the whole lines that were added."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size <= self._offset:
                    return
                file.seek(self._offset)
                text = file.read()
        except OSError:  # it was deleted meanwhile
            return
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        for number, line in enumerate(text.decode("ascii", "replace").split("\n")[:-1], 1):
            if number % AT_ONCE == 0:
                time.sleep(BREATH_S)  # for the other threads
            if not self.marks.take(line) and (words := recorded.fields(line)) is not None:
                yield words


def _begin_ms(path: Path) -> float:
    """Return when the first request of a file ended; infinity for a file without one."""
    try:
        with path.open("rb") as file:
            text = file.read(HEAD_BYTES)
    except OSError:
        return math.inf
    for line in text.decode("ascii", "replace").split("\n"):
        if (words := recorded.fields(line)) is not None:
            return float(words[ENDED])
    return math.inf


def _class(words: Sequence[str]) -> str:
    """Return the class of a request's status."""
    status = words[STATUS]
    if status[:1] not in "12345" or len(status) != 3:
        return LEFT
    # Of a visitor who left before the response, HAProxy says 400.
    if words[HOW][:1] == "C" and not words[FIRST].isdigit():
        return LEFT
    return f"{status[0]}xx"


def _quantile(buckets: Sequence[int], share: float) -> int | None:
    """Return the milliseconds that this share of requests did not exceed; the buckets are in their order."""
    if not buckets:
        return None
    bucket = buckets[max(math.ceil(share * len(buckets)) - 1, 0)]
    after = BOUNDS[bucket + 1] if bucket + 1 < len(BOUNDS) else BOUNDS[bucket] + 1
    return (BOUNDS[bucket] + after - 1) // 2
