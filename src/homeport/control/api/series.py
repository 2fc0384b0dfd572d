"""The route of what happened over time."""

import asyncio
import time

from homeport.contract.api.series import DeployMarker, Series, SeriesQuery
from homeport.contract.errors import BadRequest
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.state import traffic
from homeport.state.store import Stores
from homeport.state.traffic import Traffic

HOUR_S = 3600.0
LONGEST_S = 31 * 24 * HOUR_S


class OverTime:
    """Counts what has happened, by steps of time."""

    def __init__(self, counted: Traffic, store: Stores) -> None:
        self._traffic = counted
        self._store = store
        self._forgetting: asyncio.TimerHandle | None = None

    @route("GET", "/v1/series")
    async def series(self, scope: Scope, query: SeriesQuery) -> Series:
        """Count requests by endpoint, containers by function, and versions that were deployed, over some time."""
        until = query.until or time.time()
        since = query.since or until - HOUR_S
        if not 0 <= since < until or until - since > LONGEST_S:
            raise BadRequest("`since` must be before `until`, and not more than 31 days before it")

        def wants(app: str, tag: str) -> bool:
            return query.app in ("", app) and query.tag in ("", tag)

        wanted = traffic.window(since, until, query.step_s)
        window, endpoints = await asyncio.to_thread(self._traffic.endpoints, scope, wanted, wants)
        self._forget_later()
        begin, end = window.first * window.step_s, (window.last + 1) * window.step_s
        versions = await self._store.of(scope).versions(begin, end, query.app)
        return Series(
            begin=begin,
            step_s=window.step_s,
            steps=window.steps,
            endpoints=endpoints,
            functions=(),
            deploys=tuple(
                DeployMarker(at=each.created_at, app=each.app, version=each.version, tag=each.tag)
                for each in versions
            ),
        )

    def close(self) -> None:
        """Forget nothing any more."""
        if self._forgetting is not None:
            self._forgetting.cancel()

    def _forget_later(self) -> None:
        """Give the memory back when nobody asks any more."""
        self.close()
        loop = asyncio.get_running_loop()
        self._forgetting = loop.call_later(traffic.IDLE_S + 1, self._traffic.drop_idle)
