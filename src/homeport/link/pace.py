"""How much a peer may send: so many bytes a second on average, after a burst.

The reader waits when the peer is ahead of its allowance, so TCP holds the peer back, and other nodes get their
turns on the event loop.
"""

BYTES_PER_S = 4 * 2**20
BURST_BYTES = 32 * 2**20  # a long list, and all the changes of a busy minute
LEAST_BYTES = 1024  # what a frame counts at least: a short one costs as much work


class Pace:
    """The allowance of one peer; PURE: the caller says what time it is."""

    def __init__(
        self, now: float, *, bytes_per_s: float = BYTES_PER_S, burst_bytes: float = BURST_BYTES
    ) -> None:
        self._per_s, self._burst = bytes_per_s, burst_bytes
        self._left, self._at = burst_bytes, now

    def wait_s(self, size_bytes: int, now: float) -> float:
        """Count a frame; return how many seconds to wait before the next one is read.

        >>> pace = Pace(0.0, bytes_per_s=1000, burst_bytes=2048)
        >>> [pace.wait_s(n, at) for n, at in ((10, 0.0), (1024, 0.0), (2000, 0.0), (1000, 3.0))]
        [0.0, 0.0, 2.0, 0.024]
        """
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        self._left -= max(size_bytes, LEAST_BYTES)
        return max(0.0, -self._left / self._per_s)
