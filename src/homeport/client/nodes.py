"""Machines that have joined this homeport."""

from collections.abc import AsyncIterator, Mapping

from homeport.client.connection import Connection, as_, path_of
from homeport.contract import query
from homeport.contract.api.answers import Nothing
from homeport.contract.api.nodes import (
    Drain,
    JoinedNode,
    Labels,
    NewNodeToken,
    NodeLine,
    NodeList,
    NodeLogQuery,
    NodeToken,
)


class Nodes:
    """Makes tokens for machines; lists, labels, drains and removes machines."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[JoinedNode, ...]:
        return (await self._connection.ask(NodeList, "GET", "/v1/nodes")).nodes

    async def token(self, wanted: NewNodeToken) -> NodeToken:
        return await self._connection.ask(NodeToken, "POST", "/v1/nodes/tokens", wanted)

    async def logs(self, name: str, lines_query: NodeLogQuery) -> AsyncIterator[NodeLine]:
        """Yield the lines of an agent's own log, the oldest first."""
        path = f"{path_of('nodes', name, 'logs')}?{query.encode(lines_query)}"
        async with self._connection.stream(as_(NodeLine), "GET", path) as lines:
            async for line in lines:
                yield line

    async def label(self, name: str, changes: Mapping[str, str]) -> JoinedNode:
        """Change labels; an empty value removes one."""
        wanted = Labels(labels=dict(changes))
        return await self._connection.ask(
            JoinedNode, "POST", path_of("nodes", name, "labels"), wanted
        )

    async def drain(self, name: str, *, on: bool) -> None:
        await self._connection.ask(Nothing, "POST", path_of("nodes", name, "drain"), Drain(on=on))

    async def remove(self, name: str) -> None:
        await self._connection.call("DELETE", path_of("nodes", name))
