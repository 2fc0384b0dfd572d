"""The routes of rate limits."""

import time

from homeport.contract import names
from homeport.contract.api.rate_limits import NewRateLimit, RateLimit, RateLimitList
from homeport.contract.errors import NotFound
from homeport.contract.scope import Scope
from homeport.control.api.record import Record
from homeport.control.api.routing import route
from homeport.control.deploys.apps import Live
from homeport.control.deploys.domains import endpoint_of
from homeport.control.fleet.owner import Owner
from homeport.state import rate_limits, tokens
from homeport.state.rate_limits import RateLimitRow
from homeport.state.scope import columns


class RateLimits:
    """Keeps the rate limits of endpoints."""

    def __init__(self, store: rate_limits.RateLimits, live: Live) -> None:
        self._store, self._live = store, live

    @route("GET", "/v1/rate-limits")
    async def every(self, scope: Scope) -> RateLimitList:
        """List the rate limits of endpoints."""
        return RateLimitList(limits=tuple(map(_as_answer, await self._store.of(scope))))

    @route("POST", "/v1/rate-limits", action="rate-limit set")
    async def set(self, scope: Scope, body: NewRateLimit, record: Record) -> RateLimit:
        """Limit the requests to an endpoint of a deployed app. The limit stays over redeploys."""
        rate = tokens.check_rate(body.rate)
        app = self._live.get(Owner.app(scope, body.app))
        if app is None:
            raise NotFound(f"the app `{body.app[:80]}` is not deployed", hint="deploy it first")
        row = RateLimitRow(
            **columns(scope),
            app=body.app,
            tag=endpoint_of(app, body.tag).tag,
            rate=rate,
            created_at=time.time(),
        )
        record.target = f"{names.endpoint(row.app, row.tag)} {rate}"
        await self._store.set(row)
        return _as_answer(row)

    @route("DELETE", "/v1/rate-limits/{app}/{tag}", action="rate-limit remove")
    async def remove(self, scope: Scope, app: str, tag: str) -> None:
        """Remove the rate limit of an endpoint."""
        await self._store.remove(scope, app, tag)


def _as_answer(row: RateLimitRow) -> RateLimit:
    return RateLimit(app=row.app, tag=row.tag, rate=row.rate)
