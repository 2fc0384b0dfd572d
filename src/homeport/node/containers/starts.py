"""Measures how long each part of a container's start takes, without a gap between the parts.

The node measures `scheduled` (until its turn came) and `forked` (until its process exists). The runner reports
`imported`, `entered` and `listening`; time that it could not measure, such as the start of its interpreter,
counts as `imported`.
"""

import time
from collections.abc import Callable, Mapping

from homeport.contract.container import Event

NOTHING = Event(kind="reached")


class Start:
    """One start; `timings_ms` is complete when the start has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.timings_ms: dict[str, float] = {}
        self.imports_ms: dict[str, float] = {}
        self._clock = clock
        self._since = clock()
        self._part = "scheduled"
        self._over = False
        self._reached = NOTHING

    def turn_came(self) -> None:
        """The start's turn has come: its process starts now."""
        self._count({})
        self._part = "forked"

    def exists(self, snapshot: Event | None = None) -> None:
        """Its process exists; `snapshot` is set if its snapshot was made just for it."""
        snapshot_event = snapshot or NOTHING
        self._count(snapshot_event.timings_ms)
        self.imports_ms.update(snapshot_event.imports_ms)
        self._part = "imported"

    def reached(self, event: Event) -> None:
        """The runner reports which part begins, in case that it reports nothing more."""
        self._reached = event

    def ended(self, event: Event | None = None) -> None:
        """The start has ended, with the runner's last report or without one; only the first call counts."""
        if self._over:
            return
        self._over = True
        if event is None or not event.timings_ms:
            event = self._reached
            self._part = event.phase or self._part
        self._count(event.timings_ms)
        self.imports_ms.update(event.imports_ms)

    def _count(self, reported_ms: Mapping[str, float]) -> None:
        """Add the time since the last call: the reported parts, and the rest to the current part."""
        now = self._clock()
        rest_ms = (now - self._since) * 1000 - sum(reported_ms.values())
        self._since = now
        for part, ms in (*reported_ms.items(), (self._part, max(rest_ms, 0.0))):
            self.timings_ms[part] = round(self.timings_ms.get(part, 0.0) + ms, 1)
