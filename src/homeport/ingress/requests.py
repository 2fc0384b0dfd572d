"""Counts how requests ended: quantiles by endpoint, the first answer of each container, and each request for listeners.

Each request that has ended is one line of HAProxy's log (contract/recorded.py), which ring.py reads. A request that
came to a backend without a container has entered again (`again`), so it has two lines or more: those of its entries
come first, and are joined with its own.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from homeport.contract import recorded
from homeport.contract.recorded import (
    CONNECT,
    CONTAINER,
    ENDPOINT,
    FIRST,
    HEAD,
    ID,
    KIND,
    PARKED,
    TARGET,
    TOTAL,
    WAIT,
)
from homeport.contract.traffic import RequestRecord
from homeport.ingress.config import LINE_BYTES
from homeport.ingress.rules import AGAIN

POLL_S = 1.0
SOON_S = 0.2  # between two reads while there is a listener for each request
WINDOW_S = 300.0  # quantiles are of the last one to two windows
ENTRIES = 10_000  # requests that have entered again and have not ended

Line = list[str]


class Durations:
    """Quantiles of the recent past: milliseconds, rounded to two digits above 100."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._now: Counter[int] = Counter()
        self._before: Counter[int] = Counter()

    def add(self, ms: int, now: float) -> None:
        """One request."""
        self._turn(now)
        if ms >= 100:
            scale = 10 ** (len(str(ms)) - 2)
            ms = ms // scale * scale
        self._now[ms] += 1

    def quantile(self, share: float, now: float) -> int | None:
        """Return the milliseconds that this share of requests did not exceed; None if there were none."""
        self._turn(now)
        both = self._now + self._before
        remaining = share * both.total()
        for ms in sorted(both):
            remaining -= both[ms]
            if remaining <= 0:
                return ms
        return None

    def _turn(self, now: float) -> None:
        if now - self._began >= 2 * WINDOW_S:
            self._now, self._before, self._began = Counter(), Counter(), now
        elif now - self._began >= WINDOW_S:
            self._now, self._before = Counter(), self._now
            self._began += WINDOW_S


class Requests:
    """Every endpoint's durations."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.answered: Callable[[str, float], None] = lambda _container, _ms: None
        self.ended: Callable[[RequestRecord], None] | None = None
        self.keep: Callable[[Sequence[Line]], None] = lambda _lines: None  # gets the lines
        self._clock = clock
        self._durations: dict[str, Durations] = {}
        self._unanswered: dict[str, bool] = {}  # container -> whether it has left meanwhile
        self._entries: dict[str, Line] = {}  # request -> the line of its further entries

    def restart(self) -> None:
        """Another process answers from now on."""
        self._unanswered.clear()

    def expect(self, container: str) -> None:
        """Call `answered` when the container's first request has ended."""
        self._unanswered[container] = False

    def expect_no_more(self, container: str) -> None:
        """The container takes no more requests; all that it has answered are in the log already."""
        if container in self._unanswered:
            self._unanswered[container] = True

    def read(self, lines: Sequence[str], *, more: bool = False) -> None:
        """Count the requests of these lines of the log; `more`: further ones are there already."""
        now = self._clock()
        counted = []
        for line in lines:
            words = recorded.fields(line)
            if words is None:
                if "dropped" in line:  # HAProxy's own: a container's first request may be lost
                    self._unanswered.clear()
                continue
            if len(line) >= LINE_BYTES - 1:
                words[TARGET] += "..."
            self._answer(words[CONTAINER], words[FIRST])
            if words[KIND] == AGAIN:
                self._enter(words)
                continue
            endpoint = words[ENDPOINT]
            if endpoint == recorded.MISSING:
                continue
            if words[CONTAINER] == AGAIN:
                words = _joined(words, self._entries.pop(words[ID], None))
            durations = self._durations.get(endpoint)
            if durations is None:
                durations = self._durations[endpoint] = Durations(now)
            durations.add(int(words[TOTAL]), now)
            counted.append(words)
        if counted:
            self._tell(counted)
        if not more:
            for container in [name for name, has_left in self._unanswered.items() if has_left]:
                del self._unanswered[container]

    def quantiles_ms(self, endpoint: str) -> tuple[int, int] | None:
        """Return the median and the 99th percentile of an endpoint's requests; None if none ended."""
        durations = self._durations.get(endpoint)
        if durations is None:
            return None
        now = self._clock()
        middle, high = durations.quantile(0.5, now), durations.quantile(0.99, now)
        return None if middle is None or high is None else (middle, high)

    def forget(self, endpoint: str) -> None:
        """Drop the quantiles of an endpoint that was removed."""
        self._durations.pop(endpoint, None)

    def _answer(self, container: str, first_byte: str) -> None:
        if container in self._unanswered and first_byte.isdigit():
            del self._unanswered[container]
            self.answered(container, float(first_byte))

    def _enter(self, words: Line) -> None:
        """Note a further entry of a request. The last one ends first."""
        later = self._entries.pop(words[ID], None)
        self._entries[words[ID]] = _joined(words, later)
        if len(self._entries) > ENTRIES:
            del self._entries[next(iter(self._entries))]

    def _tell(self, lines: Sequence[Line]) -> None:
        self.keep(lines)
        if self.ended is not None:
            for words in lines:
                self.ended(recorded.decode(words))


def _joined(words: Line, later: Line | None) -> Line:
    """Return the line of a request; if it has entered again, with the numbers of its further entry."""
    if words[CONTAINER] != AGAIN:
        return words
    joined = [*words]
    joined[PARKED] = f"{_parked(words) + (_parked(later) if later else 0)}"
    if later is None:
        joined[CONTAINER] = recorded.MISSING
        return joined
    joined[CONTAINER], joined[FIRST] = later[CONTAINER], later[FIRST]
    for part in (HEAD, WAIT, CONNECT):
        joined[part] = f"{_sum(words[part], later[part])}"
    return joined


def _parked(words: Line) -> int:
    return int(words[PARKED]) if words[PARKED].isdigit() else 0


def _sum(first: str, second: str) -> int:
    """Add two times; one that was not reached makes the sum so."""
    return -1 if "-1" in (first, second) else int(first) + int(second)
