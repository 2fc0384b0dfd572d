"""What requests came to, by endpoint, from a ring in HAProxy's memory.

One line a request that has ended, read once a second, and more often while somebody wants to hear of each:

    <number> <ms> <status> <container> <ms to the first byte> <endpoint> <1 if parked> <method> <path>

Being told of each request as it ends would cost 65 us of CPU a
request on both sides; the ring costs 3, and what is overwritten before it is read is a sample that
nobody misses. Numbers are given when requests begin, so each is there once, and in no order.
"""

import re
import time
from collections import Counter
from collections.abc import Callable

from homeport.contract.traffic import RequestRecord
from homeport.ingress.config import LINE_BYTES
from homeport.ingress.rules import WAYS_BACK

POLL_S = 1.0
SOON_S = 0.2  # while somebody hears of each request
WINDOW_S = 300.0  # quantiles are of the last one to two of these


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
        """What that share of requests did not exceed; None where there were none."""
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
        """Another process tells from now on; what the one before had to say is lost."""
        self._last = ""
        self._unanswered.clear()

    def expect(self, container: str) -> None:
        """Tell `answered` of its first request."""
        self._unanswered[container] = False

    def expect_no_more(self, container: str) -> None:
        """It takes no more requests; what it has answered is in the ring by now."""
        if container in self._unanswered:
            self._unanswered[container] = True

    def read(self, text: str) -> None:
        """The ring's lines, the oldest first; those that were read before are let be."""
        now = self._clock()
        fresh = f"\n{text.strip()}\n"
        if self._last:
            _, seen, fresh = fresh.rpartition(f"\n{self._last}\n")
            if not seen:  # some are lost, and a container's first may be one of them
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
        """The median and the 99th percentile of an endpoint's requests; None where none ended."""
        durations = self._durations.get(endpoint)
        if durations is None:
            return None
        now = self._clock()
        middle, high = durations.quantile(0.5, now), durations.quantile(0.99, now)
        return None if middle is None or high is None else (middle, high)

    def forget(self, endpoint: str) -> None:
        """It has gone."""
        self._durations.pop(endpoint, None)


def _record(fields: list[str], *, cut: bool) -> RequestRecord:
    """What the nine fields of a line say; `cut`: the path has lost its end."""
    status, container, path = fields[2], fields[3], fields[8]
    # HAProxy's own way to write what is not printable; `%` is how a URL does it.
    path = re.sub(r"#([0-9A-F]{2})", r"%\1", path)
    return RequestRecord(
        endpoint=fields[5],
        method=fields[7],
        path=f"{path}..." if cut else path,
        status=int(status) if status.isdigit() else 0,
        duration_ms=int(fields[1]),
        container="" if container in (*WAYS_BACK, "-") or container.startswith("<") else container,
        cold=fields[6] == "1" or container in WAYS_BACK,
    )
