"""Counts the kept requests (state/requests.py) by endpoint and time: how many, with which status, how long they took."""

import bisect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from homeport.contract import recorded
from homeport.contract.api.series import EndpointSeries
from homeport.contract.dataclass import dataclass
from homeport.contract.recorded import ENDED, ENDPOINT, FIRST, HOW, PARKED, SENT, STATUS, TOTAL
from homeport.state import grids
from homeport.state.grids import Grids, Key, Window
from homeport.state.marks import Marks
from homeport.state.requests import Requests
from homeport.state.scope import Scope

LEFT = "left"


def _bounds() -> list[int]:
    """Return where the buckets of durations begin, in milliseconds: one apart, later 7 % apart."""
    starts = [0]
    while len(starts) < 256:
        starts.append(max(starts[-1] + 1, round(starts[-1] * 1.07)))
    return starts


BOUNDS = _bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """An endpoint's requests in a time."""

    app: str
    tag: str
    requests: int
    failed: int  # answered with 5xx
    p99_ms: int


class Traffic:
    """The requests of all environments, counted. Its methods block: call them in a thread."""

    def __init__(self, requests: Requests, clock: Callable[[], float] = time.time) -> None:
        self._grids = Grids(requests.written, Reading, Row, clock)
        self.drop_idle = self._grids.drop_idle

    def endpoints(
        self, scope: Scope, wanted: Window, wants: Callable[[str, str], bool]
    ) -> tuple[Window, tuple[EndpointSeries, ...]]:
        """Return the series of an environment's endpoints, and the steps that they have.

        `wants` gets an endpoint's app and tag. The steps are longer than wanted if there would be too many.
        """

        def series_of_rows(
            steps: Window, rows: list[tuple[Key, Row, int]]
        ) -> tuple[Window, tuple[EndpointSeries, ...]]:
            return steps, tuple(
                row.series(*key, begin, steps.steps) for key, row, begin in rows if wants(*key)
            )

        result: tuple[Window, tuple[EndpointSeries, ...]] = self._grids.rows(
            scope, wanted, series_of_rows
        )
        return result

    def totals(
        self, scope: Scope, wanted: Window, wants: Callable[[str, str], bool]
    ) -> list[Total]:
        """Return how the requests of an environment's endpoints ended in a time."""

        def totals_of_rows(steps: Window, rows: list[tuple[Key, Row, int]]) -> list[Total]:
            return [row.total(*key, begin, steps.steps) for key, row, begin in rows if wants(*key)]

        totals: list[Total] = self._grids.rows(scope, wanted, totals_of_rows)
        return totals


class Reading(grids.Reading):
    """How a file of requests is read."""

    def __init__(self, step_ms: int) -> None:
        super().__init__(step_ms)
        self._marks = Marks()

    def entries(self, line: str) -> Iterator[tuple[int, Key, Sequence[str]]]:
        """Yield a request's words."""
        if not self._marks.take(line) and (words := recorded.fields(line)) is not None:
            key = self._marks.places.get(words[ENDPOINT], ("", ""))
            yield int(words[ENDED]) // self.step_ms, key, words


class Row(grids.Row):
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

    def add(self, at: int, entry: Sequence[str]) -> None:
        if at >= len(self._cold):
            self._grow(at + 1 - len(self._cold))
        status = _class(entry)
        counts = self._statuses.get(status)
        if counts is None:
            counts = self._statuses[status] = [0] * len(self._cold)
        counts[at] += 1
        durations = self._durations[at]
        if durations is None:
            durations = self._durations[at] = bytearray()
        durations.append(bisect.bisect_right(BOUNDS, int(entry[TOTAL])) - 1)
        self._changed.add(at)
        if entry[PARKED] != recorded.MISSING:
            self._cold[at] += 1
        if entry[SENT].isdigit():
            self._sent[at] += int(entry[SENT])

    def forget(self, count: int) -> bool:
        """Forget the first steps; return whether anything is left."""
        for column in self._columns():
            del column[:count]
        self._statuses = {name: counts for name, counts in self._statuses.items() if any(counts)}
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
            by_status={
                name: (*counts, *nothing) for name, counts in statuses.items() if any(counts)
            },
            p50_ms=(*self._middle[begin:end], *none),
            p99_ms=(*self._high[begin:end], *none),
            cold=(*self._cold[begin:end], *nothing),
            sent_bytes=(*self._sent[begin:end], *nothing),
        )

    def total(self, app: str, tag: str, begin: int, count: int) -> Total:
        """Return the requests of all these steps together."""
        end = begin + count
        durations = sorted(
            b"".join(
                durations_of_step
                for durations_of_step in self._durations[begin:end]
                if durations_of_step
            )
        )
        return Total(
            app=app,
            tag=tag,
            requests=len(durations),
            failed=sum(self._statuses.get("5xx", ())[begin:end]),
            p99_ms=_quantile(durations, 0.99) or 0,
        )

    def _columns(self) -> Iterable[list[int] | list[int | None] | list[bytearray | None]]:
        return (*self._statuses.values(), self._cold, self._sent, self._durations, self._middle, self._high)  # fmt: skip

    def _grow(self, more: int) -> None:
        for counts in (*self._statuses.values(), self._cold, self._sent):
            counts.extend([0] * more)
        self._durations.extend([None] * more)
        for quantiles in (self._middle, self._high):
            quantiles.extend([None] * more)


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
