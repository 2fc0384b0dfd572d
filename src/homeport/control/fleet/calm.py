"""Says how long the control loop may sleep: until a pool changes by itself, or the ingress tells of a request."""

import logging
import math
from collections.abc import Sequence

from homeport.contract.roles import Ingress
from homeport.control.fleet import autoscaler
from homeport.control.fleet.member import Stage
from homeport.control.fleet.meter import Meter
from homeport.control.fleet.pool import Pool

PASS_S = 0.05
IDLE_PASS_S = 5.0  # between passes while no container has a request
CALM_S = 1.0  # after the last request, the loop looks often for so long

log = logging.getLogger(__name__)


class Naps:
    """The sleeps of the control loop between two passes."""

    def __init__(self, ingress: Ingress, meter: Meter) -> None:
        self._ingress = ingress
        self._meter = meter
        self.dozes = False  # the ingress says when the next request begins

    def woken(self) -> None:
        """Note that something has woken the loop; it may have been the request that the ingress told of."""
        self.dozes = False

    async def next_s(self, pools: Sequence[Pool], now: float) -> float:
        """Return how many seconds to sleep before the next pass."""
        at = min((until(pool, now) for pool in pools), default=math.inf)
        if at <= now or self._meter.is_blind:
            self.dozes = False
            return PASS_S
        if self.dozes or not any(pool.members for pool in pools):
            return min(max(at - now, PASS_S), IDLE_PASS_S)
        try:
            await self._ingress.doze()
        except Exception:
            log.exception("the ingress cannot tell of requests; its load is read all the time")
            return PASS_S
        self.dozes = True
        return 0.0  # a request may have begun since the load was read


def until(pool: Pool, now: float) -> float:
    """Return the time at which the pool changes without a request (monotonic seconds).

    `now` or earlier: look at it all the time, because something is under way. Infinity: only an event changes it.
    """
    if not (pool.members or pool.retired or pool.unsettled):
        # Requests that wait for a place, and starts that failed, have events of their own.
        if not (pool.chosen and pool.asleep):
            return math.inf
        return max(pool.used_at + pool.function.scaledown_window_s, pool.retry_at)
    alive = pool.count(Stage.READY)
    under_way = (
        pool.retired
        or not pool.members  # and requests may wait in the ingress
        or pool.floor
        or pool.demand
        or pool.demoted
        or alive != len(pool.members)
        or now < pool.used_at + CALM_S
        or alive != autoscaler.wanted(pool.bounds, pool.needed, pool.peak.at(now))
    )
    if under_way:
        return now
    return pool.peak.falls_at
