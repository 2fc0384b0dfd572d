"""The routes of proxy tokens, which open protected endpoints."""

import contextlib

from homeport.contract.api.tokens import (
    NewProxyToken,
    ProxyToken,
    ProxyTokenList,
    ProxyTokenSecret,
    Rotation,
)
from homeport.contract.errors import IngressError
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.control.api.record import Record
from homeport.control.api.routing import route
from homeport.state import tokens
from homeport.state.rows import TokenRow


class Tokens:
    """Keeps the proxy tokens."""

    def __init__(self, store: tokens.Tokens) -> None:
        self._store = store

    @route("GET", "/v1/proxy-tokens", needs=Permission.SECRETS)
    async def every(self, scope: Scope) -> ProxyTokenList:
        """List the proxy tokens, without their secrets."""
        with contextlib.suppress(IngressError):  # the last uses are known to the minute then
            await self._store.note_use()
        return ProxyTokenList(
            tokens=tuple(_as_answer(row) for row in await self._store.list(scope))
        )

    @route("POST", "/v1/proxy-tokens", needs=Permission.SECRETS)
    async def create(self, scope: Scope, body: NewProxyToken, record: Record) -> ProxyTokenSecret:
        """Create a proxy token; its secret is shown this once."""
        row, secret = await self._store.create(
            scope, body.name, scopes=body.scopes, rate=body.rate, expires_s=body.expires_s
        )
        record.target = f"{row.id} {row.name}".strip()
        return _with_secret(row, secret)

    @route("POST", "/v1/proxy-tokens/{id}/rotate", needs=Permission.SECRETS)
    async def rotate(self, scope: Scope, id: str, body: Rotation) -> ProxyTokenSecret:  # noqa: A002 - the path's
        """Give a proxy token a new secret, which is shown this once."""
        row, secret = await self._store.rotate(
            scope, id, overlap_s=body.overlap_s, expires_s=body.expires_s
        )
        return _with_secret(row, secret)

    @route("DELETE", "/v1/proxy-tokens/{id}", needs=Permission.SECRETS)
    async def delete(self, scope: Scope, id: str) -> None:  # noqa: A002 - the path's
        """Delete a proxy token."""
        await self._store.delete(scope, id)


def _as_answer(row: TokenRow) -> ProxyToken:
    return ProxyToken(
        name=row.name,
        token_id=row.id,
        created_at=row.created_at,
        scopes=tokens.scopes_of(row),
        rate=row.rate,
        expires_at=row.expires_at,
        used_at=row.used_at,
        former_until=row.former_until or None,
    )


def _with_secret(row: TokenRow, secret: str) -> ProxyTokenSecret:
    return ProxyTokenSecret(
        name=row.name,
        token_id=row.id,
        created_at=row.created_at,
        secret=secret,
        former_until=row.former_until or None,
    )
