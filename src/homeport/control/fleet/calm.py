"""Says when a pool changes by itself, without a request."""

import math

from homeport.control.fleet import autoscaler
from homeport.control.fleet.member import Stage
from homeport.control.fleet.pool import Pool

PASS_S = 0.05
CALM_S = 0.25  # after the last request, the loop looks often for so long


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
        or any(member.away for member in pool.members.values())
        or now < pool.used_at + CALM_S
        or alive != autoscaler.wanted(pool.bounds, pool.needed, pool.peak.at(now))
    )
    if under_way:
        return now
    return pool.peak.falls_at
