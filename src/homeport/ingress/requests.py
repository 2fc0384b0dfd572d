"""Reads how requests ended, from a ring in HAProxy's memory; keeps quantiles by endpoint.

Each request that has ended is one line. The ring is read once a second, and more often while a listener
wants each request (`SOON_S`):

    <number> <ms> <status> <container> <ms to the first byte> <endpoint> <1 if parked> <method> <path>

The ring costs 3 us of CPU a request; a message for each request would cost 65 us on both sides. Lines
that are overwritten before they are read are missing from the quantiles, which does not change them much.
HAProxy numbers requests when they begin, so a number is there once, and the numbers are in no order.
"""

import re
import time
from collections import Counter
from collections.abc import Callable

from homeport.contract.traffic import RequestRecord
from homeport.ingress.config import LINE_BYTES
from homeport.ingress.rules import AGAIN

POLL_S = 1.0
SOON_S = 0.2  # between two reads while there is a listener for each request
WINDOW_S = 300.0  # quantiles are of the last one to two windows


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
        left = share * both.total()
        for ms in sorted(both):
            left -= both[ms]
            if left <= 0:
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
        self._clock = clock
        self._durations: dict[str, Durations] = {}
        self._last = ""  # the line that was read last
        self._unanswered: dict[str, bool] = {}  # container -> whether it has left meanwhile

    def restart(self) -> None:
        """Another process writes the ring from now on; unread lines of the process before are lost."""
        self._last = ""
        self._unanswered.clear()

    def expect(self, container: str) -> None:
        """Call `answered` when the container's first request has ended."""
        self._unanswered[container] = False

    def expect_no_more(self, container: str) -> None:
        """The container takes no more requests; all that it has answered are in the ring already."""
        if container in self._unanswered:
            self._unanswered[container] = True

    def read(self, text: str) -> None:
        """Read the ring's lines, the oldest first; skip lines that were read before."""
        now = self._clock()
        fresh = f"\n{text.strip()}\n"
        if self._last:
            _, seen, fresh = fresh.rpartition(f"\n{self._last}\n")
            if not seen:  # lines are lost, and a container's first request may be among them
                self._unanswered.clear()
        for line in fresh.splitlines():
            fields = line.split(" ", 8)
            if len(fields) < 6 or not (fields[0].isdigit() and fields[1].isdigit()):
                continue
            self._last = line
            container, first_byte, endpoint = fields[3:6]
            if container in self._unanswered and first_byte.isdigit():
                del self._unanswered[container]
                self.answered(container, float(first_byte))
            if endpoint in ("", "-"):
                continue
            known = self._durations.get(endpoint)
            if known is None:
                known = self._durations[endpoint] = Durations(now)
            known.add(int(fields[1]), now)
            if self.ended is not None and len(fields) == 9:
                self.ended(_record(fields, cut=len(line) >= LINE_BYTES - 1))
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


def _record(fields: list[str], *, cut: bool) -> RequestRecord:
    """Return the request that a line's nine fields describe; `cut`: the path has lost its end."""
    status, container, path = fields[2], fields[3], fields[8]
    # HAProxy writes characters that are not printable as `#0A`; a URL writes them as `%0A`.
    path = re.sub(r"#([0-9A-F]{2})", r"%\1", path)
    return RequestRecord(
        endpoint=fields[5],
        method=fields[7],
        path=f"{path}..." if cut else path,
        status=int(status) if status.isdigit() else 0,
        duration_ms=int(fields[1]),
        container="" if container in (AGAIN, "-") or container.startswith("<") else container,
        cold=fields[6] == "1" or container == AGAIN,
    )
