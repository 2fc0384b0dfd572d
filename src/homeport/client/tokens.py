"""Proxy tokens."""

from homeport.client.connection import Connection
from homeport.contract.api.tokens import NewProxyToken, ProxyToken, ProxyTokenList, ProxyTokenSecret


class Tokens:
    """Creates, lists and deletes proxy tokens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[ProxyToken, ...]:
        return (await self._connection.ask(ProxyTokenList, "GET", "/v1/proxy-tokens")).tokens

    async def create(self, name: str) -> ProxyTokenSecret:
        body = NewProxyToken(name=name)
        return await self._connection.ask(ProxyTokenSecret, "POST", "/v1/proxy-tokens", body)

    async def delete(self, token: str) -> None:
        await self._connection.call("DELETE", f"/v1/proxy-tokens/{token}")
