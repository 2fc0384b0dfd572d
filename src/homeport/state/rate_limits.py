"""Rate limits of endpoints, which `homeport rate-limit set` has made. They stay over redeploys."""

import asyncio
from dataclasses import asdict

from sqlalchemy import Connection, Delete, delete, insert, select

from homeport.contract import rates
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import NotFound
from homeport.contract.roles import Ingress
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import Placed, Scope
from homeport.state.tokens import key_of

_T = tables.rate_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRow(Placed):
    """The rate limit of an endpoint; the URLs of its versions share it."""

    app: str
    tag: str  # a function, or `Class.method`
    rate: str
    created_at: float


class RateLimits:
    """The limits of all environments; the ingress enforces them."""

    def __init__(self, database: Database, ingress: Ingress) -> None:
        self._database = database
        self._ingress = ingress
        self._publishing = asyncio.Lock()

    async def publish(self) -> None:
        """Send all limits to the ingress."""
        async with self._publishing:  # what was read first must not come last
            rows = await self._all()
            await self._ingress.rates(
                {key_of(row.scope, row.app, row.tag): rates.parse(row.rate) for row in rows}
            )

    async def of(self, scope: Scope) -> list[RateLimitRow]:
        """Return the limits of an environment, by app and function."""
        return [row for row in await self._all() if row.scope == scope]

    async def set(self, row: RateLimitRow) -> None:
        """Save a limit, in the place of an earlier one; from now on more requests get 429."""

        def work(connection: Connection) -> None:
            connection.execute(_delete(row.scope, row.app, row.tag))
            connection.execute(insert(_T).values(**asdict(row)))

        await self._database.write(work)
        await self.publish()

    async def remove(self, scope: Scope, app: str, tag: str) -> None:
        """Remove a limit; `NotFound` if there is none."""
        query = _delete(scope, app, tag)
        if not await self._database.write(lambda c: c.execute(query).rowcount):
            raise NotFound(
                f"`{app[:80]}.{tag[:80]}` has no rate limit", hint="`homeport rate-limit list`"
            )
        await self.publish()

    async def _all(self) -> list[RateLimitRow]:
        query = select(_T).order_by(_T.c.app, _T.c.tag)
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [RateLimitRow(**row) for row in rows]


def _delete(scope: Scope, app: str, tag: str) -> Delete:
    return delete(_T).where(tables.here(_T, scope), _T.c.app == app, _T.c.tag == tag)
