"""Why it was slow: the last cold starts of each app, with their parts.

The reconciler tells of each start that is over; the ingress, perhaps much later, how long the container's
first request took. Kept in memory and, as lines of JSON, in `cold-starts/<app>.jsonl`. A start that is
written twice is the later one; a file that has grown is written anew.
"""

import asyncio
import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from homeport.contract import codec

KEPT = 100  # of one app
LINES = 4 * KEPT  # in its file, before it is written anew
LATER_S = 2.0
FIRST_BYTE = "first_byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """One start of a container, ready or failed.

    The parts follow each other without a gap: parked, scheduled, forked, imported, entered,
    listening, attached, first_byte. One that was not reached, or is not known, is not there.
    """

    at: float  # when the first visitor came who waited for it, in seconds since the epoch
    app: str
    function: str
    container: str
    revision: str
    origin: str  # fresh, forked, snapshot
    why_fresh: str = ""
    failed: str = ""  # why it did not become ready
    timings_ms: dict[str, float] = field(default_factory=dict)
    imports_ms: dict[str, float] = field(default_factory=dict)  # the slowest, by module

    def told(self) -> dict[str, Any]:
        """As the API tells it."""
        return {**codec.encode(self), "total_ms": round(sum(self.timings_ms.values()), 1)}


class ColdStarts:
    """Every app's, the oldest first."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._apps: dict[str, dict[str, ColdStart]] = {}  # app -> container -> start
        self._lines: dict[str, int] = {}  # in the app's file
        self._unanswered: dict[str, str] = {}  # container -> app
        self._unwritten: dict[str, str] = {}
        self._writing: asyncio.TimerHandle | None = None
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, start: ColdStart) -> None:
        """A start is over."""
        known = self._of(start.app)
        known[start.container] = start
        if not start.failed:
            self._unanswered[start.container] = start.app
        while len(known) > KEPT:
            oldest = next(iter(known))
            del known[oldest]
            self._unanswered.pop(oldest, None)
            self._unwritten.pop(oldest, None)
        self._write_later(start)

    def answered(self, container: str, ms: float) -> None:
        """The first response of a container began that long after the container had its request."""
        if (app := self._unanswered.pop(container, None)) is None:
            return  # an earlier server's, of which nobody knows how many it has answered
        start = self._apps[app][container]
        start = dataclasses.replace(start, timings_ms={**start.timings_ms, FIRST_BYTE: ms})
        self._apps[app][container] = start
        self._write_later(start)

    def last(self, app: str, count: int, function: str = "") -> list[ColdStart]:
        """The last ones of an app, or of one of its functions, the oldest first."""
        found = [s for s in self._of(app).values() if function in ("", s.function)]
        return found[-count:]

    def close(self) -> None:
        """Write down what is not written yet."""
        if self._writing is not None:
            self._writing.cancel()
        self._write()

    def _of(self, app: str) -> dict[str, ColdStart]:
        if app not in self._apps:
            known: dict[str, ColdStart] = {}
            self._lines[app] = 0
            with contextlib.suppress(OSError), _opened(self._path(app), "r") as file:
                for text in file:
                    self._lines[app] += 1
                    # Cut by a full disk, or of another homeport: the others are read.
                    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                        start = codec.loads(ColdStart, text)
                        known[start.container] = start
            self._apps[app] = dict(list(known.items())[-KEPT:])
        return self._apps[app]

    def _write_later(self, start: ColdStart) -> None:
        """Not while the visitor waits, and once with the first byte, where that is known soon."""
        self._unwritten[start.container] = start.app
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(LATER_S, self._write)

    def _write(self) -> None:
        """A full disk loses what a later server would have known, and nothing else."""
        self._writing = None
        fresh: dict[str, list[ColdStart]] = {}
        for container, app in self._unwritten.items():
            fresh.setdefault(app, []).append(self._apps[app][container])
        self._unwritten.clear()
        for app, starts in fresh.items():
            with contextlib.suppress(OSError):
                self._append(app, starts)

    def _append(self, app: str, starts: list[ColdStart]) -> None:
        path = self._path(app)
        if self._lines[app] + len(starts) <= LINES:
            with _opened(path, "a") as file:
                file.writelines(f"{codec.dumps(start)}\n" for start in starts)
            self._lines[app] += len(starts)
            return
        kept = list(self._apps[app].values())
        anew = path.with_suffix(".new")
        with _opened(anew, "w") as file:
            file.writelines(f"{codec.dumps(start)}\n" for start in kept)
        anew.replace(path)
        self._lines[app] = len(kept)

    def _path(self, app: str) -> Path:
        return self._root / f"{app}.jsonl"


def _opened(path: Path, mode: str) -> TextIO:
    """A file of starts; what is no UTF-8 in it, or in a container's words, spoils one line only."""
    return cast(TextIO, path.open(mode, encoding="utf-8", errors="replace"))
