"""The route of what happened over time."""

import asyncio
import time

from homeport.contract.api.series import DeployMarker, Series, SeriesQuery
from homeport.contract.errors import BadRequest
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.state import grids
from homeport.state.deploys import Deploys
from homeport.state.store import Stores
from homeport.state.traffic import Traffic
from homeport.state.usage import Usages

HOUR_S = 3600.0
LONGEST_S = 31 * 24 * HOUR_S


class OverTime:
    """Counts past events, by steps of time."""

    def __init__(self, counted: Traffic, usages: Usages, store: Stores, deploys: Deploys) -> None:
        self._traffic = counted
        self._usages = usages
        self._store = store
        self._deploys = deploys
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

        def wants_function(app: str, function: str) -> bool:
            return wants(app, function) or (
                wants(app, query.tag) and query.tag.startswith(f"{function}.")
            )

        requested = grids.window(since, until, query.step_s)
        requested, endpoints = await asyncio.to_thread(
            self._traffic.endpoints, scope, requested, wants
        )
        window, functions = await asyncio.to_thread(
            self._usages.functions, scope, requested, wants_function
        )
        if window != requested:  # the functions need longer steps than the endpoints
            _, endpoints = await asyncio.to_thread(self._traffic.endpoints, scope, window, wants)
        self._forget_later()
        versions = await self._store.of(scope).versions(window.begin, window.end, query.app)
        deployers = (
            await self._deploys.deployers(scope, query.app, window.begin) if versions else {}
        )
        return Series(
            begin=window.begin,
            step_s=window.step_s,
            steps=window.steps,
            endpoints=endpoints,
            functions=functions,
            deploys=tuple(
                DeployMarker(
                    at=version.created_at,
                    app=version.app,
                    version=version.version,
                    tag=version.tag,
                    user=deployers.get((version.app, version.version), ("", ""))[1],
                )
                for version in versions
            ),
        )

    def close(self) -> None:
        """Forget nothing any more."""
        if self._forgetting is not None:
            self._forgetting.cancel()

    def _forget_later(self) -> None:
        """Free the memory when it was not used for a while."""
        self.close()
        loop = asyncio.get_running_loop()
        self._forgetting = loop.call_later(grids.IDLE_S + 1, self._forget)

    def _forget(self) -> None:
        self._traffic.drop_idle()
        self._usages.drop_idle()
