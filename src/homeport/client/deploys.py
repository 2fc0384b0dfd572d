"""Deploys and rollbacks."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from homeport.client.connection import Connection, path_of
from homeport.contract import query
from homeport.contract.api import events
from homeport.contract.api.deploys import (
    Deploy,
    Deployed,
    DeployList,
    DeployQuery,
    DeployRecord,
    Rollback,
)


class Deploys:
    """Brings versions of apps up. Both methods yield events, the last one `Done`; a failure is raised."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def deploy(self, name: str, order: Deploy) -> AsyncIterator[events.Event]:
        return self._events(path_of("apps", name, "deploy"), order)

    def rollback(self, name: str, order: Rollback) -> AsyncIterator[events.Event]:
        return self._events(path_of("apps", name, "rollback"), order)

    async def promote(self, name: str) -> Deployed:
        """Let an app's canary serve all requests."""
        return await self._connection.ask(Deployed, "POST", path_of("apps", name, "promote"))

    async def every(self, deploys: DeployQuery) -> tuple[DeployRecord, ...]:
        """Return deploys, rollbacks and stops, the newest first."""
        path = f"/v1/deploys?{query.encode(deploys)}"
        return (await self._connection.ask(DeployList, "GET", path)).deploys

    def progress(self, number: int) -> AsyncIterator[events.Event]:
        """Yield the events of a deploy that is still running, from its beginning."""
        return self._events(f"/v1/deploys/{number}/progress", method="GET")

    async def _events(
        self, path: str, body: object = None, method: str = "POST"
    ) -> AsyncIterator[events.Event]:
        stream: AbstractAsyncContextManager[AsyncIterator[events.Event]]
        stream = self._connection.stream(events.read, method, path, body)
        async with stream as lines:
            async for event in lines:
                yield event
