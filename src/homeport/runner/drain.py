"""Passes the container's output to the node, in whole lines, up to a rate. Called by init.

Lines beyond the rate are dropped and counted. So are lines while the node does not read (the control plane
is down): printing never blocks for long, and never fails. The log says how many lines are missing.
"""

import os
import select
import time
from collections.abc import Callable

from homeport.contract.output import MARK, dropped

READ_BYTES = 64 * 1024
PAUSE_S = 0.002  # between two reads: many lines are passed on at once
#: An app's log (64 MiB) holds at least four minutes of output at this rate.
BYTES_PER_S, BURST_BYTES = 256 * 1024, 1024 * 1024
LINES_PER_S, BURST_LINES = 5_000, 10_000
SAY_S = 1.0  # between two lines that say how many lines were dropped
WAIT_S = 0.5  # how long the node may take to read, and to take the last lines


class Bucket:
    """Limits bytes and lines: first a burst, then a rate."""

    def __init__(self, now: float) -> None:
        self._bytes, self._lines = float(BURST_BYTES), float(BURST_LINES)
        self._at = now

    def take(self, size: int, lines: int, now: float) -> bool:
        """Take this many bytes and lines at `now` (seconds); return False if that is too much."""
        passed, self._at = max(now - self._at, 0.0), now
        self._bytes = min(self._bytes + passed * BYTES_PER_S, BURST_BYTES)
        self._lines = min(self._lines + passed * LINES_PER_S, BURST_LINES)
        if size > self._bytes or lines > self._lines:
            return False
        self._bytes -= size
        self._lines -= lines
        return True


class Drain:
    """Copies lines from one pipe to another, without blocking on either."""

    def __init__(self, source: int, sink: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._sink, self._clock = source, sink, clock
        self._bucket = Bucket(clock())
        self._pending = b""  # bytes that the sink had no room for
        self._inside = False  # True after the first part of a line has passed
        self._dropping = False  # True while the rest of a line must be dropped
        self._lost = [0, 0]  # dropped lines and bytes that the log does not mention yet
        self._said_at = -SAY_S
        self._away = False  # True if the node has not read for WAIT_S

    def fileno(self) -> int:
        """The descriptor of the pipe with the container's output."""
        return self._source

    @property
    def timeout_s(self) -> float | None:
        """How many seconds after which to call `tell`, if no output comes earlier."""
        return SAY_S if self._lost[0] or self._pending else None

    def read(self) -> int | None:
        """Read and pass output. Return the bytes read; None if there are none now, 0 if the pipe has ended."""
        try:
            data = os.read(self._source, READ_BYTES)
        except BlockingIOError:
            return None
        if data:
            self._take(data)
        return len(data)

    def tell(self) -> None:
        """Write pending bytes, and the line that says how much was dropped."""
        now = self._clock()
        self._write(b"")
        if self._lost[0] and not self._pending and not self._inside and self._is_time(now):
            self._say(now)

    def finish(self) -> None:
        """Write the last lines; the node gets WAIT_S to take them."""
        self._away = False
        if self._lost[0]:
            self._say(self._clock())
        self._write(b"")

    def _take(self, data: bytes) -> None:
        now = self._clock()
        self._write(b"")
        size, lines = len(data), data.count(b"\n")
        if self._dropping:
            data = self._drop(data, cut=True)
        fits = not self._pending and self._bucket.take(size, lines, now)
        if data and not fits:
            if self._inside and not self._pending:  # a line that has begun to pass must pass whole
                end_of_line, newline, data = data.partition(b"\n")
                self._pass(end_of_line + newline)
            self._drop(data, cut=False)
            time.sleep(PAUSE_S / 2)  # slow down a program that prints while the node does not read
        elif data:
            if self._lost[0] and not self._inside and self._is_time(now):
                self._say(now)
            self._pass(data)

    def _drop(self, data: bytes, *, cut: bool) -> bytes:
        """Drop whole lines, or with `cut` only the rest of one line; return the remaining bytes."""
        if not data:
            return b""
        remaining = b""
        if cut:
            dropped, newline, remaining = data.partition(b"\n")
            self._dropping = not newline
            self._lost[1] += len(dropped) + len(newline)
            return remaining
        self._dropping = not data.endswith(b"\n")
        if self._inside:  # end the line that has begun
            self._inside = False
            self._pending += b"\n"
        self._lost[0] += data.count(b"\n") + self._dropping
        self._lost[1] += len(data)
        return remaining

    def _pass(self, data: bytes) -> None:
        if data:
            self._inside = not data.endswith(b"\n")
            self._write(data.replace(MARK, MARK * 2) if MARK in data else data)

    def _say(self, now: float) -> None:
        lines, size = self._lost
        self._lost, self._said_at = [0, 0], now
        self._write(b"\n" * self._inside + dropped(lines, size))
        self._inside = False

    def _is_time(self, now: float) -> bool:
        return now - self._said_at >= SAY_S

    def _write(self, data: bytes) -> None:
        data = self._pending + data
        while data:
            try:
                data = data[os.write(self._sink, data) :]
                self._away = False
            except BlockingIOError:
                if self._away or not self._room():
                    break
            except OSError:  # the node has closed its end
                data = b""
        self._pending = data

    def _room(self) -> bool:
        """Wait until the node has read something; it reads a few lines at a time, but often."""
        poll = select.poll()
        poll.register(self._sink, select.POLLOUT)
        self._away = not poll.poll(WAIT_S * 1000)
        return not self._away
