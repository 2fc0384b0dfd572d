"""How long a container's start takes, part after part, with no gap between them.

The node sees `scheduled` (until its turn came) and `forked` (until its process exists). The runner tells
`imported`, `entered` and `listening`; what it could not see itself, such as the start of its
interpreter, counts for `imported`.
"""

import time
from collections.abc import Callable, Mapping

from homeport.contract.container import Event

NOTHING = Event(kind="reached")


class Start:
    """One start; `timings_ms` is complete once it is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.timings_ms: dict[str, float] = {}
        self.imports_ms: dict[str, float] = {}
        self._clock = clock
        self._since = clock()
        self._part = "scheduled"
        self._over = False
        self._reached = NOTHING

    def turn_came(self) -> None:
        """Its process is begun now."""
        self._count({})
        self._part = "forked"

    def exists(self, snapshot: Event | None = None) -> None:
        """Its process is there; the state that it began with may have been made for it just now."""
        made = snapshot or NOTHING
        self._count(made.timings_ms)
        self.imports_ms.update(made.imports_ms)
        self._part = "imported"

    def reached(self, event: Event) -> None:
        """The runner says which part begins, in case it says nothing more."""
        self._reached = event

    def ended(self, event: Event | None = None) -> None:
        """By its last word, or without one; only the first end counts."""
        if self._over:
            return
        self._over = True
        if event is None or not event.timings_ms:
            event = self._reached
            self._part = event.phase or self._part
        self._count(event.timings_ms)
        self.imports_ms.update(event.imports_ms)

    def _count(self, told_ms: Mapping[str, float]) -> None:
        """The time since the last count: what was told of it, and the rest for the part that goes on."""
        now = self._clock()
        rest = (now - self._since) * 1000 - sum(told_ms.values())
        self._since = now
        for part, ms in (*told_ms.items(), (self._part, max(rest, 0.0))):
            self.timings_ms[part] = round(self.timings_ms.get(part, 0.0) + ms, 1)
