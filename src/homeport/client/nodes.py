"""Machines that have joined this homeport."""

from urllib.parse import quote

from homeport.client.connection import Connection
from homeport.contract.api.answers import Nothing
from homeport.contract.api.nodes import Drain, JoinedNode, NewNodeToken, NodeList, NodeToken


class Nodes:
    """Makes tokens for machines; lists, drains and removes machines."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[JoinedNode, ...]:
        return (await self._connection.ask(NodeList, "GET", "/v1/nodes")).nodes

    async def token(self, wanted: NewNodeToken) -> NodeToken:
        return await self._connection.ask(NodeToken, "POST", "/v1/nodes/tokens", wanted)

    async def drain(self, name: str, *, on: bool) -> None:
        path = f"/v1/nodes/{quote(name, safe='')}/drain"
        await self._connection.ask(Nothing, "POST", path, Drain(on=on))

    async def remove(self, name: str) -> None:
        await self._connection.call("DELETE", f"/v1/nodes/{quote(name, safe='')}")
