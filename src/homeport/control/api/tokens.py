"""The routes of proxy tokens, which open protected endpoints."""

from homeport.contract.api.tokens import NewProxyToken, ProxyToken, ProxyTokenList, ProxyTokenSecret
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.control.api.record import Record
from homeport.control.api.routing import route
from homeport.state import tokens


class Tokens:
    """Keeps the proxy tokens."""

    def __init__(self, kept: tokens.Tokens) -> None:
        self._kept = kept

    @route("GET", "/v1/proxy-tokens", needs=Permission.SECRETS)
    async def every(self, scope: Scope) -> ProxyTokenList:
        """List the proxy tokens, without their secrets."""
        return ProxyTokenList(
            tokens=tuple(
                ProxyToken(name=row.name, token_id=row.id, created_at=row.created_at)
                for row in await self._kept.list(scope)
            )
        )

    @route("POST", "/v1/proxy-tokens", needs=Permission.SECRETS)
    async def create(self, scope: Scope, body: NewProxyToken, record: Record) -> ProxyTokenSecret:
        """Create a proxy token; its secret is shown this once."""
        row, secret = await self._kept.create(scope, body.name)
        record.target = f"{row.id} {row.name}".strip()
        return ProxyTokenSecret(
            name=row.name, token_id=row.id, created_at=row.created_at, secret=secret
        )

    @route("DELETE", "/v1/proxy-tokens/{id}", needs=Permission.SECRETS)
    async def delete(self, scope: Scope, id: str) -> None:  # noqa: A002 - the path's
        """Delete a proxy token."""
        await self._kept.delete(scope, id)
