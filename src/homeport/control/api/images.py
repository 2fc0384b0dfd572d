"""The routes of images."""

from homeport.contract.api.images import BuildLog, ImageList
from homeport.contract.permissions import Permission
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.control.api.view import View
from homeport.control.deploys.deployer import Deployer


class Images:
    """Lists the images that were built, and deletes those that are not needed: they belong to the server."""

    def __init__(self, view: View, deployer: Deployer) -> None:
        self._view = view
        self._deployer = deployer

    @route("GET", "/v1/images")
    async def every(self, caller: Caller) -> ImageList:
        """List the images that are built on this machine."""
        caller.check_server()
        return ImageList(images=await self._view.images())

    @route("GET", "/v1/images/{key}/log")
    async def log(self, key: str, caller: Caller) -> BuildLog:
        """Show the last lines that the build of an image's layer has told. Values of secrets are hidden in them."""
        caller.check_server()
        return BuildLog(key=key, text=await self._view.build_log(key))

    @route("POST", "/v1/images/prune", needs=Permission.ADMIN)
    async def prune(self, caller: Caller) -> ImageList:
        """Remove the images that no live or kept version needs; the answer has the removed ones."""
        caller.check_server()
        return ImageList(images=tuple(await self._deployer.prune()))
