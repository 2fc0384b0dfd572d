"""Machines that have joined this homeport."""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from homeport.client.connection import Connection, as_
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
        path = f"{_path(name)}/logs?{query.encode(lines_query)}"
        async with self._connection.stream(as_(NodeLine), "GET", path) as lines:
            async for line in lines:
                yield line

    async def label(self, name: str, changes: Mapping[str, str]) -> JoinedNode:
        """Change labels; an empty value removes one."""
        wanted = Labels(labels=dict(changes))
        return await self._connection.ask(JoinedNode, "POST", f"{_path(name)}/labels", wanted)

    async def drain(self, name: str, *, on: bool) -> None:
        await self._connection.ask(Nothing, "POST", f"{_path(name)}/drain", Drain(on=on))

    async def remove(self, name: str) -> None:
        await self._connection.call("DELETE", _path(name))


def _path(name: str) -> str:
    return f"/v1/nodes/{quote(name, safe='')}"
