"""The routes of apps, deployed or served; deploys.py and sessions.py change them."""

from homeport.contract.api.apps import AppList, AppStatus, History, Stopped
from homeport.contract.api.coldstarts import ColdStartList, ColdStartQuery
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.control.api.view import View, cold_start
from homeport.control.deploys.deployer import Deployer
from homeport.state import coldstarts


class Apps:
    """Lists and stops apps."""

    def __init__(self, view: View, deployer: Deployer, cold_starts: coldstarts.ColdStarts) -> None:
        self._view = view
        self._deployer = deployer
        self._cold_starts = cold_starts

    @route("GET", "/v1/apps")
    async def every(self, scope: Scope) -> AppList:
        """List the apps."""
        return await self._view.apps(scope)

    @route("GET", "/v1/apps/{name}")
    async def one(self, scope: Scope, name: str) -> AppStatus:
        """Describe one app; a deployed one before a session of the same name."""
        return await self._view.app(scope, name)

    @route("GET", "/v1/apps/{name}/history")
    async def history(self, scope: Scope, name: str) -> History:
        """List the versions of an app."""
        return await self._view.history(scope, name)

    @route("POST", "/v1/apps/{name}/stop")
    async def stop(self, scope: Scope, name: str) -> Stopped:
        """Stop an app, and every session of that name."""
        if not self._deployer.knows(scope, name):
            await self._view.app(scope, name)  # raises `NotFound` with the existing names
        return Stopped(containers=await self._deployer.stop_app(scope, name))

    @route("GET", "/v1/apps/{name}/cold-starts")
    async def cold_starts(self, scope: Scope, name: str, query: ColdStartQuery) -> ColdStartList:
        """List how an app's containers started."""
        await self._view.app(scope, name)
        starts = await self._cold_starts.last(scope, name, query.tail, query.function)
        return ColdStartList(cold_starts=tuple(map(cold_start, starts)))
