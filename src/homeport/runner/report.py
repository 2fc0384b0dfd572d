"""The container's few words to its node: one Event a line."""

import os
import time

from homeport.contract import codec
from homeport.contract.container import Event


class Report:
    """Says `ready`, `failed` or `busy`, once; and how long each part of the start took."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._timings_ms: dict[str, float] = {}
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
        self._say(Event(kind="ready", address=address, timings_ms=self._timings_ms))

    def failed(self, reason: str, traceback: str = "") -> None:
        """There will be no container; the reason is for the visitor."""
        reason = " ".join(reason.split())
        self._say(Event(kind="failed", reason=reason, traceback=traceback, phase=self.phase))

    def busy(self, reason: str) -> None:
        """The port belongs to somebody else."""
        self._say(Event(kind="busy", reason=reason, phase=self.phase))

    def _say(self, event: Event) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, codec.dumps(event).encode() + b"\n")
        except OSError:
            pass  # the node is gone
        finally:
            os.close(self._descriptor)
            self._descriptor = None
