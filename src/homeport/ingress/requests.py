"""How long requests took, by endpoint: HAProxy tells of each one as it ends, on a socket.

One line a request, `<milliseconds> <status> <endpoint>`, streamed from a ring in HAProxy's memory;
while nobody listens the oldest are forgotten, and no request waits for it.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

WINDOW_S = 300.0  # quantiles are of the last one to two of these
PIECE_BYTES = 64 * 1024


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
    """Hears of every request."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._durations: dict[str, Durations] = {}
        self._server: asyncio.Server | None = None
        self._hearing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; a socket that an earlier server left is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._hear, path=str(self._path))

    async def close(self) -> None:
        """Hear no more."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._hearing):
            task.cancel()
        await asyncio.gather(*self._hearing, return_exceptions=True)
        self._path.unlink(missing_ok=True)

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

    def take(self, line: str) -> None:
        """One line of HAProxy's; anything else is let be."""
        milliseconds, _, rest = line.partition(" ")
        endpoint = rest.rpartition(" ")[2]
        if milliseconds.isdigit() and endpoint not in ("", "-"):
            now = self._clock()
            known = self._durations.get(endpoint)
            if known is None:
                known = self._durations[endpoint] = Durations(now)
            known.add(int(milliseconds), now)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._hearing.add(task)
        rest = b""
        try:
            while piece := await reader.read(PIECE_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self.take(line.decode("utf-8", "replace"))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._hearing.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
