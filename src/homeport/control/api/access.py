"""Checks who calls the API, and which permissions the caller has.

Each listener has a guard, which finds the caller. Every route first calls `allowed` with the permission that it
needs, so a listener without a guard refuses every request.
"""

import functools
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from homeport.contract import calls
from homeport.contract.container import HERE
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure, Forbidden, NotFound, Unauthorized
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN, SYSTEM
from homeport.contract.scope import Scope as Within
from homeport.contract.traffic import BY_PORT
from homeport.control.api import answers

REFUSED = 1008  # policy violation (RFC 6455, 7.4.1)
#: A field of a guard's own refusals, by which the ingress counts them: an answer with 429 may be about anything.
BY_GUARD = "X-Homeport-Refused"
_CALLER = "homeport.caller"
_KEY = calls.KEY.lower().encode()
_NODE = b"x-homeport-node"  # of the ingress, which takes it from the certificate of the machine (ingress/nodes.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller of a request."""

    by: str  # `socket`, `port` (the ingress's, for `/metrics`), `token` or `container`
    name: str = ""  # of the token's user; empty: the server's own user, or a container
    token: str = ""  # the token's id; empty: no token, or the one of the settings
    workspace: str = "main"
    environments: frozenset[str] | None = None  # None: all of the workspace
    within: Within | None = None  # a container's environment: it reaches no other one
    permissions: frozenset[Permission] = frozenset(Permission)
    expires_at: float | None = None  # of the token, in seconds since the epoch; None: never
    source: str = ""  # the address that the request comes from; empty: this machine
    node: str = HERE  # the node of the container

    def check(self, needs: Permission) -> None:
        """Raise `Forbidden` if the caller does not have this permission."""
        if needs in self.permissions:
            return
        has = ", ".join(
            f"`{permission.value}`" for permission in Permission if permission in self.permissions
        )
        raise Forbidden(
            f"this needs a token with the scope `{needs.value}`, and this one has {has or 'none'}",
            hint=f"an admin of the server can make one: `homeport token create --scope {needs.value}`",
        )

    def scope(self, name: str) -> Within:
        """Return the environment of a request; `name` is the one that the request names, or empty."""
        if self.within is not None:
            if name not in ("", self.within.environment):
                raise NotFound(
                    f"there is no environment `{name[:80]}` for code of `{self.within.environment}`"
                )
            return self.within
        requested = Within(self.workspace, name or MAIN.environment)
        if self.environments is not None and requested.environment not in self.environments:
            allowed_names = ", ".join(f"`{name}`" for name in sorted(self.environments)) or "none"
            raise Forbidden(
                f"this token is not for the environment `{requested.environment[:80]}`",
                hint=f"it is for {allowed_names}: `-e NAME` or HOMEPORT_ENVIRONMENT names one",
            )
        return requested

    def sees(self, scope: Within) -> bool:
        """Return whether the caller may see an environment's contents."""
        if self.within is not None:
            return scope == self.within
        is_open_to_caller = self.environments is None or scope.environment in self.environments
        return is_open_to_caller and scope.workspace == self.workspace

    @property
    def is_of_server(self) -> bool:
        """Return whether the caller acts for the whole server, and not for its workspace alone."""
        return (
            self.workspace == MAIN.workspace and self.environments is None and self.within is None
        )

    def check_server(self) -> None:
        """Raise `Forbidden` unless the caller may change the whole server, and not its workspace alone."""
        if not self.is_of_server:
            raise Forbidden(
                "this needs the whole server: this token is for one workspace, or for some environments"
            )


#: The permissions of code in a container; its listener has few routes.
OF_CONTAINERS = frozenset({Permission.READ, Permission.DEPLOY})


class Guard:
    """Lets the requests through for which `who` returns a caller."""

    def __init__(self, app: ASGIApp, who: Callable[[Scope], Caller]) -> None:
        self._app = app
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                caller_of_request = scope[_CALLER] = self._who(scope)
            except Failure as failure:
                if scope["type"] == "websocket":  # a handshake that is not accepted gets a 403
                    await receive()
                    await send({"type": "websocket.close", "code": REFUSED})
                else:
                    answer = answers.refusal(failure)
                    answer.headers[BY_GUARD] = "1"
                    await answer(scope, receive, send)
                return
            await self.serve(scope, receive, send, caller_of_request)

    async def serve(self, scope: Scope, receive: Receive, send: Send, _caller: Caller) -> None:
        """Answer a request that the guard lets through."""
        await self._app(scope, receive, send)


class OwnSocket(Guard):
    """Accepts every request: the Unix socket's mode is 0600, so only the server's own user reaches it.

    The ingress passes on what visitors of its port ask of `/metrics`, and says so: they may do nothing else.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, self._own)

    @staticmethod
    def _own(scope: Scope) -> Caller:
        by_port = BY_PORT.lower().encode()
        if any(field == by_port for field, _ in scope["headers"]):
            return Caller(by="port", permissions=frozenset({Permission.READ}))
        return Caller(by="socket")


class Inside(Guard):
    """Accepts requests with the key of an environment, which its containers have. The ingress alone reaches this socket."""

    def __init__(
        self,
        app: ASGIApp,
        by_key: Callable[[str], Within | None],
        *,
        dashboard: ASGIApp | None = None,
    ) -> None:
        """`by_key` returns the environment with a key.

        `dashboard` answers the requests that the dashboard's container makes with a visitor's token; it has a guard
        of its own.
        """
        super().__init__(app, self._container)
        self._by_key = by_key
        self._dashboard = dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._dashboard is not None and self._is_for_visitor(scope):
            await self._dashboard(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _is_for_visitor(self, scope: Scope) -> bool:
        """Return whether the dashboard's container asks with a token; no other container's token counts."""
        if scope["type"] != "http" or not header(scope, b"authorization"):
            return False
        keys = [value for field, value in scope["headers"] if field == _KEY]
        return len(keys) == 1 and self._by_key(keys[0].decode("latin-1")) == SYSTEM

    def _container(self, scope: Scope) -> Caller:
        keys = [value for field, value in scope["headers"] if field == _KEY]
        within = self._by_key(keys[0].decode("latin-1")) if len(keys) == 1 else None
        if within is None:
            raise Unauthorized("a request from a container has the key of its environment")
        return _inside(within, header(scope, _NODE) or HERE)


@functools.lru_cache(1024)
def _inside(within: Within, node: str) -> Caller:
    return Caller(
        by="container",
        workspace=within.workspace,
        within=within,
        permissions=OF_CONTAINERS,
        node=node,
    )


def header(scope: Scope, name: bytes) -> str:
    """Return the first field of a request with a name, which is in lower case; empty without one."""
    return next(
        (value.decode("latin-1") for field_name, value in scope["headers"] if field_name == name),
        "",
    )


def caller(request: HTTPConnection) -> Caller:
    """Return the caller; `Unauthorized` if no guard has accepted the request."""
    found_caller = request.scope.get(_CALLER)
    if not isinstance(found_caller, Caller):
        raise Unauthorized
    return found_caller


def allowed(request: HTTPConnection, needs: Permission) -> Caller:
    """Return the caller; `Forbidden` if it does not have the permission."""
    caller_of_request = caller(request)
    caller_of_request.check(needs)
    return caller_of_request
