"""Computes how many containers a pool should have. Pure: numbers in, a number out.

Demand is the number of all requests: running in containers, queued in HAProxy, parked in the activator.
The number of containers rises with demand at once. It falls with the highest demand of the last
`scaledown_window_s`: so a burst's containers stay for the next burst, and a few steady requests, which
HAProxy spreads over all containers, do not keep all of them forever.
"""

import math
from collections import deque

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The function's settings for scaling."""

    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    target_inputs: int = 1  # how many concurrent requests a container should have
    scaledown_window_s: float = 60.0


def wanted(bounds: Bounds, demand: int, peak: int) -> int:
    """Return how many containers the pool should have now.

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

    Keeps only samples that are higher than all later ones, so a steady load keeps one sample.
    """

    __slots__ = ("_samples", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()  # demand falls from left to right

    def record(self, demand: int, now: float) -> int:
        """Add a sample and return the peak; `now` must not decrease."""
        self._add(demand, now)
        return self.at(now)

    def resize(self, window_s: float) -> None:
        """Look back so many seconds from now on; the samples stay."""
        self._window_s = window_s

    def lower(self, most: int) -> None:
        """Reduce samples above `most` to `most`."""
        samples, self._samples = self._samples, deque()
        for at, demand in samples:
            if min(demand, most):
                self._add(min(demand, most), at)

    def _add(self, demand: int, at: float) -> None:
        while self._samples and self._samples[-1][1] <= demand:
            self._samples.pop()
        self._samples.append((at, demand))

    def at(self, now: float) -> int:
        """Return the peak; 0 if there was no demand."""
        while self._samples and now - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        return self._samples[0][1] if self._samples else 0

    @property
    def falls_at(self) -> float:
        """The time at which the peak falls without new demand; infinity if there is nothing to forget."""
        if not self._samples or not self._samples[0][1]:
            return math.inf
        return self._samples[0][0] + self._window_s
