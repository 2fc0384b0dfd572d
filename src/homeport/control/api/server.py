"""The routes of the server itself."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from starlette.responses import PlainTextResponse

from homeport.contract.api.answers import Nothing
from homeport.contract.api.apps import AppStatus
from homeport.contract.api.server import Status
from homeport.contract.errors import Forbidden
from homeport.contract.permissions import Permission
from homeport.control.api.access import Caller
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.api.view import View
from homeport.control.fleet.census import NodeNumbers


class Server:
    """Says how the server is, and ends it."""

    def __init__(
        self,
        view: View,
        *,
        nodes: Callable[[], Awaitable[Sequence[NodeNumbers]]],
        alone: Callable[[], bool],
        keep: Callable[[], None],
        shutdown: Callable[[], None],
    ) -> None:
        """`nodes` returns the numbers of each node, `alone` whether the server has one workspace."""
        self._view = view
        self._nodes, self._alone = nodes, alone
        self._keep = keep
        self._shutdown = shutdown

    @route("GET", "/metrics")
    async def metrics(self, caller: Caller) -> PlainTextResponse:
        """Give the numbers of `Status` to Prometheus (see [metrics](metrics.md)).

        The main port answers it too, to callers on this machine, with the apps of the workspace `main`; not on a server
        with several workspaces, whose containers are such callers.
        """
        if caller.by == "port" and not self._alone():
            raise Forbidden(
                "the server has several workspaces, and does not tell here how their apps are",
                hint="ask the API, with a token of the scope `read`",
            )
        apps = (await self._view.seen(caller.sees)).apps
        nodes = await self._nodes() if caller.is_of_server else ()
        return await asyncio.to_thread(_metrics, apps, nodes)

    @route("GET", "/v1/status")
    async def status(self, caller: Caller) -> Status:
        """Return the server's status, with everything that runs."""
        status = await self._view.status(caller.sees)
        return status if caller.is_of_server else dataclasses.replace(status, nodes={})

    @route("POST", "/v1/keep", audit=Audited.NONE)
    async def keep(self, caller: Caller) -> Nothing:
        """Let the server outlive the command that started it; a caller of one workspace changes nothing by this."""
        if caller.is_of_server:
            self._keep()
        return Nothing()

    @route("POST", "/v1/shutdown", needs=Permission.ADMIN, action="shutdown")
    async def shutdown(self, caller: Caller) -> Nothing:
        """End every container, the ingress and the server; the answer comes before that begins."""
        caller.check_server()
        self._shutdown()
        return Nothing()


def _metrics(apps: Sequence[AppStatus], nodes: Sequence[NodeNumbers]) -> PlainTextResponse:
    """Write the page in a thread: requests that park must not wait for it, nor for its imports."""
    from homeport.control.api import metrics

    return PlainTextResponse(metrics.render(apps, nodes), media_type=metrics.TYPE)
