"""The container's few words to its node: one Event a line."""

import contextlib
import os
import time
from collections.abc import Callable

from homeport.contract import codec
from homeport.contract.container import Event


class Report:
    """Says `ready`, `failed` or `busy`, once; how long each part took; later, what was imported."""

    def __init__(self, hears: int | Callable[[Event], None]) -> None:
        self._hears: int | Callable[[Event], None] | None = hears  # a descriptor, as a rule
        self._timings_ms: dict[str, float] = {}
        self._told: set[str] = set()
        self._since = time.monotonic()
        self.phase = "import"  # what is going on now

    def begin(self, phase: str) -> None:
        """The part before has ended, and this one begins."""
        now = time.monotonic()
        self._timings_ms[self.phase] = round((now - self._since) * 1000, 1)
        self.phase, self._since = phase, now

    def ready(self, address: str) -> None:
        """Requests are answered at `unix:/path` or `127.0.0.1:8000`."""
        self.begin("serve")
        self._say(Event(kind="ready", address=address, timings_ms=self._timings_ms), last=False)

    def imported(self, modules: tuple[str, ...]) -> None:
        """These are loaded by now; the next container may find them so from its beginning."""
        new = tuple(name for name in modules if name not in self._told)
        self._told.update(new)
        if new:
            self._say(Event(kind="imported", modules=new), last=False)

    def failed(self, reason: str, traceback: str = "") -> None:
        """There will be no container; the reason is for the visitor."""
        reason = " ".join(reason.split())
        self._say(Event(kind="failed", reason=reason, traceback=traceback, phase=self.phase))

    def busy(self, reason: str) -> None:
        """The port belongs to somebody else."""
        self._say(Event(kind="busy", reason=reason, phase=self.phase))

    def _say(self, event: Event, *, last: bool = True) -> None:
        hears = self._hears
        if last:
            self._hears = None
        if callable(hears):
            hears(event)
        elif hears is not None:
            with contextlib.suppress(OSError):  # the node is gone, or too busy to hear this
                os.write(hears, codec.dumps(event).encode() + b"\n")
            if last:
                os.close(hears)
