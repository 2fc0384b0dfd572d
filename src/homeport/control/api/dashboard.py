"""The routes of the dashboard.

A command asks for a link, and the dashboard's container exchanges the code in it for a token of the API, which the
visitor's browser keeps as a cookie. The token is the caller's: the same user, workspace, environments and permissions.
"""

from homeport.contract.api.dashboard import (
    SESSION_S,
    DashboardLink,
    DashboardSession,
    LoginCode,
)
from homeport.contract.errors import NotFound, Unauthorized
from homeport.contract.permissions import Permission
from homeport.contract.scope import SYSTEM
from homeport.control.api.access import Caller
from homeport.control.api.logins import HINT, Logins
from homeport.control.api.record import Record
from homeport.control.api.routing import route
from homeport.control.deploys.dashboard import Dashboard
from homeport.state.api_tokens import ApiTokens


class Dashboards:
    """Deploys the dashboard, and makes links to it."""

    def __init__(self, dashboard: Dashboard, logins: Logins, tokens: ApiTokens) -> None:
        self._dashboard, self._logins, self._tokens = dashboard, logins, tokens

    @route("POST", "/v1/dashboard", needs=Permission.READ, action="dashboard link")
    async def link(self, caller: Caller) -> DashboardLink:
        """Make a link to the dashboard, which is deployed if it is not. The link logs its first visitor in as the caller, and is valid for a minute."""
        if caller.by not in ("socket", "token"):
            raise Unauthorized("a link to the dashboard is for a person with a token")
        url = await self._dashboard.url()
        code, until = self._logins.make(caller)
        return DashboardLink(url=f"{url.rstrip('/')}/login#{code}", expires_at=until)

    @route("DELETE", "/v1/dashboard/session", needs=Permission.READ, action="dashboard logout")
    async def logout(self, caller: Caller, record: Record) -> None:
        """Delete the caller's token, if it was made for a session of the dashboard."""
        row = self._tokens.find(caller.workspace, caller.token) if caller.token else None
        if row is None or not self._tokens.is_session(row):
            raise NotFound("this token was not made for a session of the dashboard")
        record.target = row.id
        await self._tokens.delete(caller.workspace, row.id)


class DashboardLogins:
    """Exchanges codes for tokens, for the dashboard's container alone."""

    def __init__(self, logins: Logins, tokens: ApiTokens) -> None:
        self._logins, self._tokens = logins, tokens

    @route("POST", "/v1/dashboard/session", action="dashboard login")
    async def login(self, caller: Caller, body: LoginCode, record: Record) -> DashboardSession:
        """Return a token for the code of a login link. It answers the dashboard's container alone."""
        if caller.within != SYSTEM:
            raise NotFound("there is no `POST /v1/dashboard/session`")
        try:
            person = self._logins.use(body.code)
        except Unauthorized:
            record.drop()
            raise
        record.caller = person
        # Deleted or expired since the link was made.
        if person.token and not self._tokens.is_valid(person.token):
            raise Unauthorized(
                "the token that made this link was deleted or has expired", hint=HINT
            )
        row, secret = await self._tokens.create_session(
            parent=person.token,
            workspace=person.workspace,
            user=person.name,
            scopes=person.permissions,
            environments=person.environments or (),
            lasts_s=SESSION_S,
        )
        record.target = row.id
        return DashboardSession(secret=secret, expires_at=row.expires_at or 0.0)
