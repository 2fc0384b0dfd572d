"""Environments and workspaces."""

import urllib.parse

from homeport.client.connection import Connection
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

PATH, WORKSPACES = "/v1/environments", "/v1/workspaces"


class Environments:
    """The environments of the caller's workspace, and the workspaces of the server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[EnvironmentInfo, ...]:
        return (await self._connection.ask(EnvironmentList, "GET", PATH)).environments

    async def create(self, environment: NewEnvironment) -> EnvironmentInfo:
        return await self._connection.ask(EnvironmentInfo, "POST", PATH, environment)

    async def update(self, name: str, change: EnvironmentChange) -> EnvironmentInfo:
        return await self._connection.ask(EnvironmentInfo, "POST", _of(PATH, name), change)

    async def delete(self, name: str) -> int:
        """Return how many containers ended."""
        return (
            await self._connection.ask(EnvironmentDeleted, "DELETE", _of(PATH, name))
        ).containers

    async def workspaces(self) -> tuple[WorkspaceInfo, ...]:
        return (await self._connection.ask(WorkspaceList, "GET", WORKSPACES)).workspaces

    async def create_workspace(self, workspace: NewWorkspace) -> WorkspaceInfo:
        return await self._connection.ask(WorkspaceInfo, "POST", WORKSPACES, workspace)

    async def delete_workspace(self, name: str) -> int:
        """Return how many containers ended."""
        return (
            await self._connection.ask(EnvironmentDeleted, "DELETE", _of(WORKSPACES, name))
        ).containers


def _of(path: str, name: str) -> str:
    return f"{path}/{urllib.parse.quote(name, safe='')}"
