"""Which calls of a function are sent next, and when the database is asked for more of them. No I/O.

    database ──read──▶ ready ──take──▶ flying ──landed──▶
    new call ──add───▶ ready           at most MOST

A new call is sent from memory. The database is read once for each hundred calls, and not for each of them, because
10,000 calls may wait there.
"""

import math
from collections.abc import Iterable

from homeport.state.calls import CallRow

MOST = 100  # requests of one function at once; the autoscaler sees them queue

Key = tuple[str, int]  # a call's id, and the place of its input
Waiting = tuple[CallRow, bytes | None]  # with its input; None: it must be read


class Line:
    """The waiting calls of one function."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.flying: dict[Key, int] = {}  # and the attempt
        #: The database may have calls that are due and not `ready`.
        self.is_behind = False
        #: When the next call is due that waits for a time (of `time.time`).
        self.next_at = math.inf
        self._ready: dict[Key, Waiting] = {}
        self._passed: set[Key] = set()

    @property
    def is_empty(self) -> bool:
        """True if nothing is known to wait or to be on its way."""
        return not (self.flying or self._ready or self.is_behind or self.next_at < math.inf)

    def add(self, calls: Iterable[Waiting]) -> None:
        """Take new calls, which are in the database too; those without room stay there."""
        for row, body in calls:
            if self.is_behind or len(self._ready) >= MOST:
                self.is_behind = True
                return
            self._ready[row.id, row.place] = row, body

    def take(self) -> Waiting | None:
        """Return the next call to send; None if none waits, or too many are on their way."""
        if not self._ready or len(self.flying) >= MOST:
            return None
        key = next(iter(self._ready))
        row, body = self._ready.pop(key)
        self.flying[key] = row.attempt
        return row, body

    @property
    def wanted(self) -> int:
        """How many calls to read from the database, with those that are on their way; 0: none."""
        if self._ready or not self.is_behind or len(self.flying) >= MOST:
            return 0
        return MOST + len(self.flying)

    def read(self, waiting: Iterable[Waiting]) -> None:
        """Take the calls that were read."""
        for row, body in waiting:
            key = (row.id, row.place)
            if key not in self.flying:
                self._ready[key] = row, body
            elif self.flying[key] != row.attempt:
                self._passed.add(key)  # its next attempt begins when this one has ended

    def landed(self, key: Key) -> None:
        """Note that a request has ended."""
        self.flying.pop(key, None)
        if key in self._passed:
            self._passed.discard(key)
            self.is_behind = True

    def drop(self, key: Key) -> None:
        """Drop a call that was cancelled."""
        self._ready.pop(key, None)

    def due(self, at: float) -> None:
        """Note that a call waits for a time."""
        self.next_at = min(self.next_at, at)
