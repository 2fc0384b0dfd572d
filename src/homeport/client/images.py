"""Images that were built."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.images import BuildLog, ImageList
from homeport.contract.image import Environment


class Images:
    """Lists images, and deletes those that are not needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[Environment, ...]:
        return (await self._connection.ask(ImageList, "GET", "/v1/images")).images

    async def log(self, key: str) -> str:
        """Return the output of a layer's build."""
        path = path_of("images", key, "log")
        return (await self._connection.ask(BuildLog, "GET", path)).text

    async def prune(self) -> tuple[Environment, ...]:
        """Delete the images that no version needs; return them."""
        return (await self._connection.ask(ImageList, "POST", "/v1/images/prune")).images
