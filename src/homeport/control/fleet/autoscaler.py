"""How many containers a pool should have. Pure: numbers in, a number out.

Demand is every request there is: running in containers, queued in HAProxy, parked in the activator.
Going up follows demand at once; going down follows the highest demand of the last
`scaledown_window_s`, so that a burst's containers stay for the next one and a steady trickle, which
HAProxy spreads over all of them, does not keep them for ever.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the function asks for."""

    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    target_inputs: int = 1  # requests at once that one container should have
    scaledown_window_s: float = 60.0


def wanted(bounds: Bounds, demand: int, peak: int) -> int:
    """How many containers the pool should have now.

    `demand` is the requests of this moment, `peak` the highest demand of the last window.
    Always within [min_containers, max_containers].

    >>> wanted(Bounds(target_inputs=10), demand=31, peak=31)
    4
    >>> wanted(Bounds(min_containers=1, buffer_containers=2), demand=0, peak=0)
    1
    """
    highest = max(demand, peak)
    busy = -(-highest // bounds.target_inputs)
    spare = bounds.buffer_containers if highest > 0 else 0
    count = max(bounds.min_containers, busy + spare)
    return count if bounds.max_containers is None else min(count, bounds.max_containers)


class Peak:
    """The highest demand of the last `window_s` seconds.

    Holds only samples that a later one has not surpassed, so a steady load keeps one of them.
    """

    __slots__ = ("_samples", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()  # demand falls from left to right

    def record(self, demand: int, now: float) -> int:
        """Add a sample; `now` never goes back. Returns the peak."""
        self._add(demand, now)
        return self.at(now)

    def lower(self, most: int) -> None:
        """Forget what was higher than that."""
        samples, self._samples = self._samples, deque()
        for at, demand in samples:
            if min(demand, most):
                self._add(min(demand, most), at)

    def _add(self, demand: int, at: float) -> None:
        while self._samples and self._samples[-1][1] <= demand:
            self._samples.pop()
        self._samples.append((at, demand))

    def at(self, now: float) -> int:
        """The peak, 0 where there was no demand."""
        while self._samples and now - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        return self._samples[0][1] if self._samples else 0
