"""The routes by which a container asks for the URL of its tunnel, and waits until the URL is removed."""

from homeport.contract.api.tunnels import TunnelInfo
from homeport.contract.scope import Scope
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.fleet import tunnels


class Tunnels:
    """The tunnels that containers have opened: `modal.forward`.

    A tunnel belongs to the environment of its container. Within it, the tunnel's name is a secret of the container.
    """

    def __init__(self, open_tunnels: tunnels.Tunnels) -> None:
        self._tunnels = open_tunnels

    @route("GET", "/v1/tunnels/{name}")
    async def one(self, scope: Scope, name: str) -> TunnelInfo:
        """Return where a tunnel answers; wait up to ten seconds until it does."""
        return await self._tunnels.opened(scope, name)

    @route("DELETE", "/v1/tunnels/{name}", audit=Audited.NONE)
    async def close(self, scope: Scope, name: str) -> None:
        """Close a tunnel: its URL answers 404 from now on."""
        await self._tunnels.close(scope, name)
