"""Checks who calls the API.

Each listener has a guard, which finds the caller. Every route first calls `caller`, so a listener without a
guard refuses every request. Users and their scopes belong here: a guard finds the user, and `caller` checks
the scope that the route needs.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from homeport.contract.errors import Failure, Unauthorized
from homeport.control.api import answers

REFUSED = 1008  # policy violation (RFC 6455, 7.4.1)
_CALLER = "homeport.caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller of a request. The user may do everything; a container's listener has few routes."""

    by: str  # `socket`, `token` or `container`


class Guard:
    """Lets the requests through for which `who` returns a caller."""

    def __init__(self, app: ASGIApp, who: Callable[[Scope], Caller]) -> None:
        self._app = app
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                scope[_CALLER] = self._who(scope)
            except Failure as failure:
                if scope["type"] == "websocket":  # a handshake that is not accepted gets a 403
                    await receive()
                    await send({"type": "websocket.close", "code": REFUSED})
                else:
                    await answers.refusal(failure)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class OwnSocket(Guard):
    """Accepts every request: the Unix socket's mode is 0600, so only the server's own user reaches it."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, lambda _scope: Caller(by="socket"))


class Inside(Guard):
    """Accepts every request: the ingress alone reaches this socket, for containers."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, lambda _scope: Caller(by="container"))


class BearerOnly(Guard):
    """Accepts requests with the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        super().__init__(app, self._bearer)
        self._expected = f"Bearer {token}".encode()

    def _bearer(self, scope: Scope) -> Caller:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            raise Unauthorized(
                "the server wants a token", hint="set HOMEPORT_TOKEN to the server's token"
            )
        return Caller(by="token")


def caller(request: HTTPConnection) -> Caller:
    """Return the caller; `Unauthorized` if no guard has accepted the request."""
    known = request.scope.get(_CALLER)
    if not isinstance(known, Caller):
        raise Unauthorized
    return known
