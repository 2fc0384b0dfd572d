"""Finds the route of a request, and answers requests that have no route or that fail: the ASGI app behind each guard.

Starlette makes the requests and the answers. Its own router tries one regular expression after the other, below three
layers of middleware, which took two thirds of the time of a container's request (docs/decisions.md).
"""

import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from homeport.contract.errors import Failure
from homeport.control.api import answers, routing
from homeport.state.audit import Audit
from homeport.state.environments import Environments

Answer = Callable[[Request], Awaitable[Response]]


class _Path:
    """A route's path, taken apart."""

    def __init__(self, path: str) -> None:
        parts = path.split("/")
        self.place = _place(parts)
        self._names = [(at, p[1:-1]) for at, p in enumerate(parts) if p.startswith("{")]
        self._fixed = [(at, p) for at, p in enumerate(parts) if not p.startswith("{")]

    def values(self, parts: list[str]) -> dict[str, str] | None:
        """Return the values in a path of as many parts; None if it is another."""
        for at, part in self._fixed:
            if parts[at] != part:
                return None
        values = {name: parts[at] for at, name in self._names}
        return values if all(values.values()) else None


class Router:
    """The routes of some nouns, as an ASGI app."""

    def __init__(
        self,
        nouns: Iterable[object],
        environments: Environments,
        audit: Audit | None,
        sockets: Mapping[str, Callable[[WebSocket], Awaitable[None]]] | None = None,
    ) -> None:
        """`sockets` are the paths of WebSockets. The routes ask `environments`, and write to `audit`."""
        self.environments, self.audit = environments, audit
        self._sockets = sockets or {}
        #: By the number of parts, and by the noun; each path once, in the order in which they are declared.
        self._routes: defaultdict[tuple[int, str], list[tuple[str, _Path, Answer]]]
        self._routes = defaultdict(list)
        for noun in nouns:
            for described in routing.described(type(noun)):  # type: ignore[arg-type] # a class has a hash
                handler = getattr(noun, described.handler)
                answer = functools.partial(routing.answer, described, handler)
                path = _path(described.path)
                self._routes[path.place].append((described.method, path, answer))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        scope["app"] = self
        request = Request(scope, receive)
        try:
            try:
                response = await self._answer(request)
                await response(scope, receive, noted)
            except Failure as failure:
                if has_begun:
                    raise RuntimeError("a handler failed after its answer had begun") from failure
                await answers.refusal(failure)(scope, receive, noted)
        except Exception as error:
            if not has_begun:
                await answers.our_fault(error)(scope, receive, send)
            raise  # the server logs it

    async def _answer(self, request: Request) -> Response:
        scope = request.scope
        parts = scope["path"].split("/")
        method_asked = "GET" if scope["method"] == "HEAD" else scope["method"]
        is_known = False
        for method, path, answer in self._routes.get(_place(parts), ()):
            if (values := path.values(parts)) is None:
                continue
            if method == method_asked:
                scope["path_params"] = values
                return await answer(request)
            is_known = True
        return answers.no_route(request, 405 if is_known else 404)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = self._sockets.get(scope["path"])
        if serve is None:
            await send({"type": "websocket.close", "code": 1000})
            return
        scope["app"] = self
        await serve(WebSocket(scope, receive, send))


@functools.cache
def _path(path: str) -> _Path:
    return _Path(path)


def _place(parts: list[Any]) -> tuple[int, str]:
    """Return where the routes of such a path are kept: its number of parts, and the part that is never a value."""
    return len(parts), parts[2] if len(parts) > 2 else parts[-1]
