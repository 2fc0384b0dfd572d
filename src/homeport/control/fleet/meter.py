"""Reads the load of each pool from the ingress, once in each pass of the control loop."""

import dataclasses
import logging
from collections.abc import Collection

from homeport.contract.roles import Ingress
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet.member import Stage
from homeport.control.fleet.pool import Pool, now

log = logging.getLogger(__name__)


class Meter:
    """Reads the load of pools."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self.is_blind = False  # the ingress failed to report its load the last time

    async def read(self, pools: Collection[Pool]) -> None:
        """Note in each pool its present load and its highest demand; a pool without containers has nothing running."""
        attached = [p for p in pools if p.count(Stage.READY, Stage.DRAINING) or p.unsettled]
        loads = await self._loads(attached)
        for pool in pools:
            pool.load = loads.get(pool.key, _unseen(pool.load))
            if not pool.members:
                # Requests queued in the ingress for a container that has ended are demand too.
                pool.unsettled = pool.load.running + pool.load.queued > 0
            # A request that began and ended between two passes was demand too.
            passed = int(pool.look())
            pool.peak.record(max(pool.needed, passed), now())
            if pool.demand or passed:
                pool.used_at = now()

    async def _loads(self, pools: Collection[Pool]) -> dict[PoolKey, Load]:
        """Return the pools' load from the ingress; the last one if it fails: cold starts must not wait."""
        if not pools:
            return {}
        try:
            loads = await self._ingress.load([pool.key for pool in pools])
        except Exception:
            if not self.is_blind:
                log.exception("the ingress does not report its load; the last report is used")
            self.is_blind = True
            return {pool.key: pool.load for pool in pools}
        self.is_blind = False
        return loads


def _unseen(load: Load) -> Load:
    """Return the load of a pool without containers: nothing runs, and the counters stay."""
    return dataclasses.replace(load, running=0, queued=0, per_container={}, served_by={})
