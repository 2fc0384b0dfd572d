"""Tokens of the API."""

from urllib.parse import quote

from homeport.client.connection import Connection
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
        await self._connection.call("DELETE", f"/v1/tokens/{quote(token, safe='')}")

    async def delete_user(self, user: str) -> tuple[str, ...]:
        """Delete every token of a user; return their ids."""
        path = f"/v1/users/{quote(user, safe='')}"
        return (await self._connection.ask(DeletedTokens, "DELETE", path)).ids
