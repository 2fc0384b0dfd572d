"""Tokens of the API."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.api_tokens import (
    ApiToken,
    ApiTokenList,
    ApiTokenSecret,
    DeletedTokens,
    Identity,
    NewApiToken,
)


class ApiTokens:
    """Creates, lists and deletes tokens of the API."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def identity(self) -> Identity:
        """Return who the caller is."""
        return await self._connection.ask(Identity, "GET", "/v1/identity")

    async def every(self) -> tuple[ApiToken, ...]:
        return (await self._connection.ask(ApiTokenList, "GET", "/v1/tokens")).tokens

    async def create(self, token: NewApiToken) -> ApiTokenSecret:
        return await self._connection.ask(ApiTokenSecret, "POST", "/v1/tokens", token)

    async def delete(self, token: str) -> None:
        await self._connection.call("DELETE", path_of("tokens", token))

    async def delete_user(self, user: str) -> tuple[str, ...]:
        """Delete every token of a user; return their ids."""
        path = path_of("users", user)
        return (await self._connection.ask(DeletedTokens, "DELETE", path)).ids
