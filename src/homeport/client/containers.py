"""Containers."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.answers import Nothing
from homeport.contract.api.containers import ContainerList, ContainerStatus


class Containers:
    """Lists and stops containers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[ContainerStatus, ...]:
        return (await self._connection.ask(ContainerList, "GET", "/v1/containers")).containers

    async def stop(self, container: str) -> None:
        await self._connection.ask(Nothing, "POST", path_of("containers", container, "stop"))
