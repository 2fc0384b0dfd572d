"""The guard of the listeners for other machines: it lets requests through that have a token.

A right token is never refused because of wrong ones, with one exception: the token of the settings, which a person may have
chosen, is not tried while its address is blocked, unless it is too long to be guessed.
A request ends when its token is deleted or expires, also in the middle of a stream.
"""

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from homeport.contract.api.dashboard import VISITOR
from homeport.contract.errors import TooMany, Unauthorized
from homeport.contract.permissions import granted
from homeport.control.api.access import Caller, Guard
from homeport.control.api.attempts import WrongTokens
from homeport.state import api_tokens
from homeport.state.api_tokens import ApiTokens
from homeport.state.rows import ApiTokenRow

UNGUESSABLE = 20  # characters
HINT = "log in with `homeport login`, or set HOMEPORT_TOKEN to a token of the server"

log = logging.getLogger(__name__)


def peer(scope: Scope) -> str:
    """Return the address of the other end of a connection."""
    client = scope.get("client")
    return client[0] if client else ""


def address_from_ingress(scope: Scope) -> str:
    """Return the address of a visitor, from the field that the ingress has written."""
    addresses = [value for name, value in scope["headers"] if name == b"x-homeport-source"]
    return addresses[0].decode("latin-1") if len(addresses) == 1 else ""


def address_from_dashboard(scope: Scope) -> str:
    """Return the address of the visitor that the dashboard asks for; its container has it from the ingress."""
    field = VISITOR.lower().encode()
    addresses = [value for name, value in scope["headers"] if name == field]
    return addresses[0].decode("latin-1")[:64] if len(addresses) == 1 else ""


class Bearer(Guard):
    """Accepts requests with a token of the store, or with that of the settings."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: ApiTokens,
        *,
        first: str = "",
        wrong: WrongTokens | None = None,
        source: Callable[[Scope], str] = peer,
        refused: Callable[[str, str, str], None] = lambda _source, _given, _result: None,
    ) -> None:
        """`first` is the token of the settings, an admin's; empty: there is none.

        `refused` is called with the source of a wrong token, the text of the token, and the kind of the refusal.
        """
        super().__init__(app, self._bearer)
        self._tokens, self._first = tokens, first
        self._wrong = wrong or WrongTokens()
        self._source, self._refused = source, refused
        self._open: dict[str, set[asyncio.Future[None]]] = {}  # requests, by their token
        tokens.watch(self._end)

    def _bearer(self, scope: Scope) -> Caller:
        source = self._source(scope)
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, text = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
        text = text if kind == b"Bearer" else b""
        row = self._tokens.verified(text.decode("latin-1"))
        if row is not None:
            return _caller(row, source)
        wait_s = self._wrong.blocked_s(source)
        may_try = bool(self._first) and (not wait_s or len(self._first) >= UNGUESSABLE)
        if may_try and hmac.compare_digest(text, self._first.encode()):
            return Caller(by="token", source=source)
        if wait_s:
            raise TooMany(
                "too many wrong tokens came from this address", retry_after_s=math.ceil(wait_s)
            )
        if not headers:
            raise Unauthorized("the server needs a token", hint=HINT)
        is_last = self._wrong.add(source)
        token_text = text.decode("latin-1")
        self._refused(source, token_text, (TooMany if is_last else Unauthorized).__name__)
        if is_last:
            log.warning("many wrong tokens came from %s", ascii(source))
        raise Unauthorized("the token is wrong, has expired or was deleted", hint=HINT)

    async def serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        if not caller.token:
            await super().serve(scope, receive, send, caller)
            return
        task: asyncio.Future[None] = asyncio.ensure_future(
            super().serve(scope, receive, send, caller)
        )
        requests = self._open.setdefault(caller.token, set())
        requests.add(task)
        left_s = None if caller.expires_at is None else caller.expires_at - time.time()
        try:
            await asyncio.wait({task}, timeout=left_s)
        finally:
            requests.discard(task)
            if not requests:
                self._open.pop(caller.token, None)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def _end(self, token: str) -> None:
        for task in self._open.get(token, ()):
            if task is not asyncio.current_task():
                # The request that deletes its own token has an answer.
                task.cancel()


def _caller(row: ApiTokenRow, source: str) -> Caller:
    return Caller(
        by="token",
        name=row.user,
        token=row.id,
        workspace=row.workspace,
        environments=frozenset(api_tokens.environments_of(row)) or None,
        permissions=granted(api_tokens.scopes_of(row)),
        expires_at=row.expires_at,
        source=source,
    )
