"""Sessions of `homeport serve` and `homeport run`."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from homeport.client.connection import Connection
from homeport.contract.api import events
from homeport.contract.api.apps import EndpointStatus
from homeport.contract.api.sessions import Endpoints, Serve
from homeport.contract.manifest import Manifest


class Sessions:
    """Apps that live as long as a command's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def serve(
        self, manifest: Manifest, *, detach: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[events.Event]]:
        """Yield the events of a session, which ends with the block; with `detach`, until its spawned calls have ended."""
        body = Serve(manifest=manifest, detach=detach)
        return self._connection.stream(events.read, "POST", "/v1/serve", body)

    async def reload(self, session: str, manifest: Manifest) -> tuple[EndpointStatus, ...]:
        """Return the session's endpoints, once the new version answers there."""
        path, body = f"/v1/serve/{session}", Serve(manifest=manifest)
        return (await self._connection.ask(Endpoints, "PUT", path, body)).endpoints
