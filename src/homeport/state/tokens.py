"""Proxy tokens: `wk-…` with a secret `ws-…` that is shown once and kept as a hash.

A token opens every protected endpoint of its environment, or those of some apps and functions. The ingress checks it, and knows when it was used; that is
asked for now and then, so no request waits for it. A rotation gives a new secret; the one before opens endpoints until its overlap is over.
"""

import asyncio
import dataclasses
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping

from sqlalchemy import Connection, delete, func, insert, select, update

from homeport.contract import names, rates
from homeport.contract.errors import BadRequest, IngressError, NotFound, StorageError
from homeport.contract.roles import Ingress
from homeport.contract.traffic import Pass
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.rows import TokenRow
from homeport.state.scope import MAIN, Scope, columns
from homeport.supervised import Tasks, supervised

ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
LENGTH = 22  # 22 of 57 letters: 128 bits
MAX_NAME = 64  # characters
MAX_SCOPES = 100
MAX_TOKENS = 10_000  # of an environment
LONGEST_S = 100 * 365 * 86400.0
USED_S = 60.0  # how often it is asked when tokens were used
SAME_S = 1.0  # a use this soon after the one in the row is the same one
_T = tables.proxy_tokens
_ID, _HASH = re.compile(r"wk-[A-Za-z0-9]+\Z"), re.compile(r"[0-9a-f]{64}\Z")

log = logging.getLogger(__name__)


class TokenRows:
    """The rows of all environments' tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def every(self) -> list[tuple[Scope, TokenRow]]:
        """Return every token, with its environment."""
        rows = await self._database.read(
            lambda c: [dict(row) for row in c.execute(select(_T)).mappings()]
        )
        return [
            (Scope(row.pop("workspace"), row.pop("environment")), TokenRow(**row)) for row in rows
        ]

    async def of(self, scope: Scope) -> list[TokenRow]:
        """Return the tokens of an environment, the oldest first."""
        shown = (_T.c[field.name] for field in dataclasses.fields(TokenRow))
        query = select(*shown).where(tables.here(_T, scope)).order_by(_T.c.created_at)
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [TokenRow(**row) for row in rows]

    async def add(self, scope: Scope, row: TokenRow) -> None:
        """Save a token's hash."""
        query = insert(_T).values(**columns(scope), **dataclasses.asdict(row))
        await self._database.write(lambda c: c.execute(query))

    async def replace(self, scope: Scope, row: TokenRow, before: str) -> bool:
        """Replace a token's row if its secret still has the hash `before`; else return False."""
        this_row = (tables.here(_T, scope), _T.c.id == row.id, _T.c.secret_sha256 == before)
        changed = {
            name: value for name, value in dataclasses.asdict(row).items() if name != "used_at"
        }
        query = update(_T).where(*this_row).values(**changed)
        return await self._database.write(lambda c: c.execute(query).rowcount) > 0

    async def delete(self, scope: Scope, token: str) -> bool:
        """Delete a token; False for an unknown one."""
        query = delete(_T).where(tables.here(_T, scope), _T.c.id == token)
        return bool(await self._database.write(lambda c: c.execute(query).rowcount))

    async def note_use(self, used: Mapping[str, float]) -> None:
        """Write when tokens were used, by their ids; an earlier time than the row's is ignored."""

        def work(connection: Connection) -> None:
            for token, at in used.items():
                later = (_T.c.id == token, func.coalesce(_T.c.used_at, 0.0) < at - SAME_S)
                connection.execute(update(_T).where(*later).values(used_at=at))

        await self._database.write(work)


class Tokens:
    """The tokens of all environments."""

    def __init__(
        self, database: Database, ingress: Ingress, now: Callable[[], float] = time.time
    ) -> None:
        self._rows = TokenRows(database)
        self._ingress = ingress
        self._now = now
        self._publishing = asyncio.Lock()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to write when tokens are used."""
        loop = supervised(
            "proxy tokens' last use", self._watch_use, expected=(IngressError, StorageError)
        )
        self._tasks.start("proxy tokens' last use", loop)

    async def close(self) -> None:
        """Write when they were used, for the last time."""
        await self._tasks.close()
        try:
            await self.note_use()
        except (IngressError, StorageError) as error:
            log.warning("when proxy tokens were used is not written: %s", error.message)

    async def publish(self) -> None:
        """Send the valid tokens to the ingress. A damaged row is left out: that token opens nothing."""
        # What was read first must not come last: a deleted token would open again.
        async with self._publishing:
            await self._publish()

    async def _publish(self) -> None:
        rows, now = await self._rows.every(), self._now()
        valid: dict[str, Pass] = {}
        damaged = 0
        for scope, row in rows:
            try:
                opens = _pass(row)
            except ValueError:
                damaged += 1
                continue
            if opens.until is None or opens.until > now:
                valid |= {f"{realm}/{row.id}".lstrip("/"): opens for realm in _realms(scope, row)}
        if damaged:
            log.warning("%d proxy tokens in the store are damaged", damaged)
        await self._ingress.tokens(valid)

    async def create(
        self,
        scope: Scope,
        name: str,
        *,
        scopes: Collection[str] = (),
        rate: str = "",
        expires_s: float | None = None,
    ) -> tuple[TokenRow, str]:
        """Create a token; return it with its secret, which is not stored and cannot be shown again.

        `scopes` are `app` or `app/function`; none means all.
        """
        _check(name, scopes, expires_s)
        rate = check_rate(rate) if rate else ""
        if len(await self.list(scope)) >= MAX_TOKENS:
            raise BadRequest(
                f"there are {MAX_TOKENS} proxy tokens", hint="delete those that nobody needs"
            )
        now, secret = self._now(), f"ws-{random()}"
        row = TokenRow(
            id=f"wk-{random()}",
            name=name,
            secret_sha256=_digest(secret),
            created_at=now,
            scopes=",".join(sorted(set(scopes))),
            rate=rate,
            expires_at=None if expires_s is None else now + expires_s,
        )
        await self._rows.add(scope, row)
        await self.publish()
        return row, secret

    async def rotate(
        self, scope: Scope, token: str, *, overlap_s: float, expires_s: float | None = None
    ) -> tuple[TokenRow, str]:
        """Give a token a new secret; the one before opens endpoints for `overlap_s` more. `expires_s` gives it a new end."""
        if not 0 <= overlap_s <= LONGEST_S:
            raise BadRequest("an overlap lasts from 0 seconds up to 100 years")
        _check_expiry(expires_s)
        before = await self.find(scope, token)
        now, secret = self._now(), f"ws-{random()}"
        row = dataclasses.replace(
            before,
            secret_sha256=_digest(secret),
            former_sha256=before.secret_sha256 if overlap_s else "",
            former_until=now + overlap_s if overlap_s else 0.0,
            expires_at=before.expires_at if expires_s is None else now + expires_s,
        )
        if row.expires_at is not None and row.expires_at <= now:
            raise BadRequest(
                f"the proxy token `{token}` has expired", hint="`--expires 90d` gives it a new end"
            )
        if not await self._rows.replace(scope, row, before.secret_sha256):
            raise NotFound(f"the proxy token `{token}` was changed meanwhile", hint="try again")
        await self.publish()
        return row, secret

    async def find(self, scope: Scope, token: str) -> TokenRow:
        """Return a token; `NotFound` for an unknown one."""
        for row in await self._rows.of(scope):
            if row.id == token:
                return row
        raise NotFound(
            f"there is no proxy token `{token[:80]}`", hint="`homeport proxy-token list` has them"
        )

    async def list(self, scope: Scope) -> list[TokenRow]:
        """Return every token of an environment, without its secret."""
        return await self._rows.of(scope)

    async def delete(self, scope: Scope, token: str) -> None:
        """Delete a token: it opens nothing from now on; `NotFound` for an unknown one."""
        if not await self._rows.delete(scope, token):
            raise NotFound(f"there is no proxy token `{token}`")
        await self.publish()

    async def note_use(self) -> None:
        """Ask the ingress when tokens were used, and write it."""
        used = await self._ingress.tokens_used()
        if used:
            now = self._now()
            await self._rows.note_use({token: now - age_s for token, age_s in used.items()})

    async def _watch_use(self) -> None:
        while True:
            await asyncio.sleep(USED_S)
            await self.note_use()


def key_of(scope: Scope, app: str, tag: str = "") -> str:
    """Return the key of an app, or of a function's endpoint, in the ingress: 20 hexadecimal digits."""
    return hashlib.sha256(f"{scope}\0{app}\0{tag}".encode()).hexdigest()[:20]


def realm_of(scope: Scope) -> str:
    """Return what `Endpoint.realm` is in an environment; empty for MAIN."""
    return "" if scope == MAIN else hashlib.sha256(str(scope).encode()).hexdigest()[:20]


def random() -> str:
    """Return 128 random bits as letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def scopes_of(row: TokenRow) -> tuple[str, ...]:
    """Return the apps and functions that a token opens; none means all."""
    return tuple(filter(None, row.scopes.split(",")))


def _digest(secret: str) -> str:
    # A random secret of 128 bits needs no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()


def _realms(scope: Scope, row: TokenRow) -> list[str]:
    """Return the realms that a token opens: that of its environment, or of its apps and functions."""
    if not row.scopes:
        return [realm_of(scope)]
    parts = (scope_text.partition("/") for scope_text in scopes_of(row))
    return [key_of(scope, app, tag) for app, _, tag in parts]


def _pass(row: TokenRow) -> Pass:
    """Return the data of a token that the ingress needs; `ValueError` if the row is damaged."""
    if not (_ID.match(str(row.id)) and _HASH.match(str(row.secret_sha256))):
        raise ValueError(row.id)
    if row.former_sha256 and not _HASH.match(row.former_sha256):
        raise ValueError(row.id)
    return Pass(
        sha256=row.secret_sha256,
        until=row.expires_at,
        former_sha256=row.former_sha256,
        former_until=row.former_until,
        rate=rates.parse(row.rate) if row.rate else None,
    )


def _check(name: str, scopes: Collection[str], expires_s: float | None) -> None:
    if len(name) > MAX_NAME or not name.isprintable():
        raise BadRequest(f"a token's name has at most {MAX_NAME} printable characters")
    if len(scopes) > MAX_SCOPES:
        raise BadRequest(f"a token opens at most {MAX_SCOPES} apps and functions")
    for scope_text in scopes:
        app, has_tag, tag = scope_text.partition("/")
        if not names.is_object_name(app) or (has_tag and not names.is_tag(tag)):
            raise BadRequest(
                f"`{scope_text[:80]}` is not an app or a function",
                hint="name an app, `shop`, or a function of one, `shop.price`",
            )
    _check_expiry(expires_s)


def _check_expiry(expires_s: float | None) -> None:
    if expires_s is not None and not 0 < expires_s <= LONGEST_S:
        raise BadRequest("a token expires after more than 0 seconds and less than 100 years")


def check_rate(rate: str) -> str:
    """Return a rate in its usual spelling; `BadRequest` if it is not a rate."""
    try:
        return str(rates.parse(rate))
    except ValueError as error:
        raise BadRequest(f"the rate is `{rate[:40]}`: {error}") from None
