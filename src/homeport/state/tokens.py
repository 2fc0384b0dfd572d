"""Proxy tokens: `wk-…` with a secret `ws-…` that is shown once and kept as a hash."""

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Mapping

from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.roles import Ingress
from homeport.state.rows import TokenRow
from homeport.state.scope import MAIN, Scope
from homeport.state.store import Stores

ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
LENGTH = 22  # 22 of 57 letters: 128 bits
MAX_NAME = 64  # characters
_ID, _HASH = re.compile(r"wk-[A-Za-z0-9]+\Z"), re.compile(r"[0-9a-f]{64}\Z")

log = logging.getLogger(__name__)


class Tokens:
    """The tokens of all environments; the ingress knows their hashes."""

    def __init__(self, store: Stores, ingress: Ingress) -> None:
        self._store = store
        self._ingress = ingress

    async def publish(self) -> None:
        """Tell the ingress what is valid. A damaged row is left out: that token opens nothing."""
        rows = await self._store.tokens()
        valid = [
            (scope, row)
            for scope, row in rows
            if _ID.match(str(row.id)) and _HASH.match(str(row.secret_sha256))
        ]
        if len(valid) < len(rows):
            log.warning("%d proxy tokens in the store are damaged", len(rows) - len(valid))
        hashes: Mapping[str, str] = {
            token_key(scope, row.id): row.secret_sha256 for scope, row in valid
        }
        await self._ingress.tokens(hashes)

    async def create(self, scope: Scope, name: str) -> tuple[TokenRow, str]:
        """Create a token; return it with its secret, which is not stored and cannot be shown again."""
        if len(name) > MAX_NAME or not name.isprintable():
            raise BadRequest(f"a token's name has at most {MAX_NAME} printable characters")
        secret = f"ws-{random()}"
        row = TokenRow(
            id=f"wk-{random()}",
            name=name,
            # A random secret of 128 bits needs no slow hash: there is nothing to guess.
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            created_at=time.time(),
        )
        await self._store.of(scope).add_token(row)
        await self.publish()
        return row, secret

    async def list(self, scope: Scope) -> list[TokenRow]:
        """Return every token of an environment, without its secret."""
        return await self._store.of(scope).tokens()

    async def delete(self, scope: Scope, token: str) -> None:
        """Delete a token: it opens nothing from now on; `NotFound` for an unknown one."""
        if not await self._store.of(scope).delete_token(token):
            raise NotFound(f"there is no proxy token `{token}`")
        await self.publish()


def token_key(scope: Scope, token: str) -> str:
    """Return how the ingress knows a token: it opens the endpoints of its environment alone."""
    realm = realm_of(scope)
    return f"{realm}/{token}" if realm else token


def realm_of(scope: Scope) -> str:
    """Return what `Endpoint.realm` is in an environment; empty for MAIN."""
    return "" if scope == MAIN else hashlib.sha256(str(scope).encode()).hexdigest()[:20]


def random() -> str:
    """Return 128 random bits as letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
