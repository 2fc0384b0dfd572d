"""The routes of secrets; no answer holds a value."""

from homeport.contract.api.secrets import NewSecret, SecretKeys, SecretList, StoredSecret
from homeport.contract.permissions import Permission
from homeport.control.api.routing import route
from homeport.state.scope import Scope, Scoped
from homeport.state.secrets import SecretBox


class Secrets:
    """Keeps the secrets that functions name."""

    def __init__(self, boxes: Scoped[SecretBox]) -> None:
        self._boxes = boxes

    @route("GET", "/v1/secrets", needs=Permission.SECRETS)
    async def every(self, scope: Scope) -> SecretList:
        """List the secrets, without their values."""
        return SecretList(
            secrets=tuple(
                StoredSecret(
                    name=row.name,
                    keys=tuple(row.keys),
                    created_at=row.created_at,
                    updated_at=row.updated_at,
                )
                for row in await self._boxes.of(scope).list()
            )
        )

    @route("POST", "/v1/secrets", needs=Permission.SECRETS)
    async def create(self, scope: Scope, body: NewSecret) -> SecretKeys:
        """Create a secret, or replace its values."""
        keys = await self._boxes.of(scope).create(body.name, body.values, force=body.force)
        return SecretKeys(name=body.name, keys=tuple(keys))

    @route("DELETE", "/v1/secrets/{name}", needs=Permission.SECRETS)
    async def delete(self, scope: Scope, name: str) -> None:
        """Delete a secret."""
        await self._boxes.of(scope).delete(name)
