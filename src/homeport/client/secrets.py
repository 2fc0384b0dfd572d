"""Secrets."""

from urllib.parse import quote

from homeport.client.connection import Connection
from homeport.contract.api.secrets import NewSecret, SecretKeys, SecretList, StoredSecret


class Secrets:
    """Keeps secrets; their values never come back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[StoredSecret, ...]:
        return (await self._connection.ask(SecretList, "GET", "/v1/secrets")).secrets

    async def create(self, secret: NewSecret) -> SecretKeys:
        return await self._connection.ask(SecretKeys, "POST", "/v1/secrets", secret)

    async def delete(self, name: str) -> None:
        await self._connection.call("DELETE", f"/v1/secrets/{quote(name, safe='')}")
