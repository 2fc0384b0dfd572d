"""Rate limits of endpoints."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.rate_limits import NewRateLimit, RateLimit, RateLimitList


class RateLimits:
    """Lists, sets and removes rate limits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[RateLimit, ...]:
        return (await self._connection.ask(RateLimitList, "GET", "/v1/rate-limits")).limits

    async def set(self, wanted: NewRateLimit) -> RateLimit:
        return await self._connection.ask(RateLimit, "POST", "/v1/rate-limits", wanted)

    async def remove(self, app: str, tag: str) -> None:
        path = path_of("rate-limits", app, tag)
        await self._connection.call("DELETE", path)
