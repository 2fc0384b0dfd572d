"""Environments and workspaces."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.environments import (
    EnvironmentChange,
    EnvironmentDeleted,
    EnvironmentInfo,
    EnvironmentList,
    NewEnvironment,
    NewWorkspace,
    WorkspaceInfo,
    WorkspaceList,
)


class Environments:
    """The environments of the caller's workspace, and the workspaces of the server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[EnvironmentInfo, ...]:
        return (
            await self._connection.ask(EnvironmentList, "GET", path_of("environments"))
        ).environments

    async def create(self, environment: NewEnvironment) -> EnvironmentInfo:
        return await self._connection.ask(
            EnvironmentInfo, "POST", path_of("environments"), environment
        )

    async def update(self, name: str, change: EnvironmentChange) -> EnvironmentInfo:
        return await self._connection.ask(
            EnvironmentInfo, "POST", path_of("environments", name), change
        )

    async def delete(self, name: str) -> int:
        """Return how many containers ended."""
        return (
            await self._connection.ask(EnvironmentDeleted, "DELETE", path_of("environments", name))
        ).containers

    async def workspaces(self) -> tuple[WorkspaceInfo, ...]:
        return (await self._connection.ask(WorkspaceList, "GET", path_of("workspaces"))).workspaces

    async def create_workspace(self, workspace: NewWorkspace) -> WorkspaceInfo:
        return await self._connection.ask(WorkspaceInfo, "POST", path_of("workspaces"), workspace)

    async def delete_workspace(self, name: str) -> int:
        """Return how many containers ended."""
        return (
            await self._connection.ask(EnvironmentDeleted, "DELETE", path_of("workspaces", name))
        ).containers
