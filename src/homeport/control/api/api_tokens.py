"""The routes of the API's own tokens."""

from homeport.contract.api.api_tokens import (
    ApiToken,
    ApiTokenList,
    ApiTokenSecret,
    DeletedTokens,
    Identity,
    NewApiToken,
)
from homeport.contract.errors import BadRequest
from homeport.contract.permissions import Permission
from homeport.control.api.access import Caller
from homeport.control.api.record import Record
from homeport.control.api.routing import route
from homeport.state import api_tokens, environments
from homeport.state.rows import ApiTokenRow


class ApiTokens:
    """Keeps the tokens of the API. A user is a name on tokens."""

    def __init__(
        self, token_store: api_tokens.ApiTokens, environment_store: environments.Environments
    ) -> None:
        self._tokens, self._environments = token_store, environment_store

    @route("GET", "/v1/identity")
    async def identity(self, caller: Caller) -> Identity:
        """Say who the caller is, and what the caller may do."""
        token = (
            _as_answer(self._tokens.find(caller.workspace, caller.token)) if caller.token else None
        )
        return Identity(
            by=caller.by,
            user=caller.name,
            token=token,
            permissions=tuple(
                permission for permission in Permission if permission in caller.permissions
            ),
            environments=tuple(sorted(caller.environments or ())),
        )

    @route("GET", "/v1/tokens", needs=Permission.ADMIN)
    async def every(self, caller: Caller) -> ApiTokenList:
        """List the tokens of the API, of all workspaces, without their secrets."""
        return ApiTokenList(tokens=tuple(map(_as_answer, self._tokens.every(_workspace(caller)))))

    @route("POST", "/v1/tokens", needs=Permission.ADMIN)
    async def create(self, caller: Caller, body: NewApiToken, record: Record) -> ApiTokenSecret:
        """Create a token of the API; its secret is shown this once."""
        if body.workspace and body.workspace != caller.workspace:
            caller.check_server()
            self._environments.find_workspace(body.workspace)
        if api_tokens.is_session_name(body.name):
            raise BadRequest(
                f"`{body.name}` is the name of tokens that the dashboard makes",
                hint="choose another name",
            )
        row, secret = await self._tokens.create(
            workspace=body.workspace or caller.workspace,
            name=body.name,
            user=body.user or caller.name,
            scopes=body.scopes,
            environments=body.environments,
            expires_s=body.expires_s,
        )
        scopes = ",".join(scope.value for scope in body.scopes)
        record.target = " ".join(filter(None, (row.id, row.name, row.user, scopes)))
        return ApiTokenSecret(token=_as_answer(row), secret=secret)

    @route("DELETE", "/v1/tokens/{id}", needs=Permission.ADMIN)
    async def delete(self, caller: Caller, id: str) -> None:  # noqa: A002 - the path's
        """Delete a token of the API; requests that it has opened end."""
        await self._tokens.delete(_workspace(caller), id)

    @route("DELETE", "/v1/users/{user}", needs=Permission.ADMIN)
    async def delete_user(self, caller: Caller, user: str) -> DeletedTokens:
        """Delete every token of a user, in all workspaces."""
        return DeletedTokens(ids=tuple(await self._tokens.delete_user(_workspace(caller), user)))


def _workspace(caller: Caller) -> str | None:
    """Return the workspace whose tokens the caller manages; None: all, because a token of one workspace cannot."""
    return None if caller.is_of_server else caller.workspace


def _as_answer(row: ApiTokenRow) -> ApiToken:
    return ApiToken(
        id=row.id,
        workspace=row.workspace,
        name=row.name,
        user=row.user,
        scopes=api_tokens.scopes_of(row),
        environments=api_tokens.environments_of(row),
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )
