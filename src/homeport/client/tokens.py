"""Proxy tokens."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.tokens import (
    NewProxyToken,
    ProxyToken,
    ProxyTokenList,
    ProxyTokenSecret,
    Rotation,
)


class Tokens:
    """Creates, lists and deletes proxy tokens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[ProxyToken, ...]:
        return (await self._connection.ask(ProxyTokenList, "GET", "/v1/proxy-tokens")).tokens

    async def create(self, wanted: NewProxyToken) -> ProxyTokenSecret:
        return await self._connection.ask(ProxyTokenSecret, "POST", "/v1/proxy-tokens", wanted)

    async def rotate(self, token: str, wanted: Rotation) -> ProxyTokenSecret:
        path = path_of("proxy-tokens", token, "rotate")
        return await self._connection.ask(ProxyTokenSecret, "POST", path, wanted)

    async def delete(self, token: str) -> None:
        await self._connection.call("DELETE", path_of("proxy-tokens", token))
