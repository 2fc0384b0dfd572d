"""The routes by which a container learns the URL of its tunnel, and waits until the URL is gone."""

from homeport.contract.api.tunnels import TunnelInfo
from homeport.contract.scope import Scope
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.fleet import tunnels


class Tunnels:
    """The tunnels that containers have opened: `modal.forward`.

    A tunnel belongs to the environment of its container. Within it, the tunnel's name is a secret of the container.
    """

    def __init__(self, known: tunnels.Tunnels) -> None:
        self._known = known

    @route("GET", "/v1/tunnels/{name}")
    async def one(self, scope: Scope, name: str) -> TunnelInfo:
        """Return where a tunnel answers; wait up to ten seconds until it does."""
        return await self._known.opened(scope, name)

    @route("DELETE", "/v1/tunnels/{name}", audit=Audited.NONE)
    async def close(self, scope: Scope, name: str) -> None:
        """Close a tunnel: its URL answers 404 from now on."""
        await self._known.close(scope, name)
