"""Secrets."""

from homeport.client.connection import Connection, path_of
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
        await self._connection.call("DELETE", path_of("secrets", name))
