"""Decides how long the control loop sleeps between two passes, and makes the ingress report requests meanwhile."""

import logging

from homeport.contract.roles import Ingress
from homeport.control.fleet.agenda import Agenda
from homeport.control.fleet.calm import PASS_S
from homeport.control.fleet.meter import Meter

LATE_S = 0.01  # after a pass that had no time for all of its pools

log = logging.getLogger(__name__)


class Naps:
    """The sleeps of the control loop."""

    def __init__(self, ingress: Ingress, meter: Meter, agenda: Agenda) -> None:
        self._ingress = ingress
        self._meter = meter
        self._agenda = agenda

    async def next_s(self, now: float) -> float:
        """Return how many seconds to sleep before the next pass."""
        if self._meter.is_blind:
            self._agenda.watch_none()
            return PASS_S
        if quiet := self._agenda.quiet(now):
            try:
                await self._ingress.doze([pool.key for pool in quiet])
            except Exception:
                log.exception("the ingress cannot tell of requests; its load is read all the time")
                return PASS_S
            self._agenda.watch(quiet)
            if self._agenda.next_at(now) > now:
                return 0.0  # a request may have begun since the load was read
        least_s = LATE_S if self._agenda.is_late else PASS_S
        return max(self._agenda.next_at(now) - now, least_s)
