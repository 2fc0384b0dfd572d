"""The routes of environments, for the caller's workspace, and of workspaces, for the server's admin."""

from homeport.contract.api.environments import (
    EnvironmentChange,
    EnvironmentDeleted,
    EnvironmentInfo,
    EnvironmentKey,
    EnvironmentList,
    NewEnvironment,
    NewWorkspace,
    WorkspaceInfo,
    WorkspaceList,
)
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.control.deploys.worlds import Worlds
from homeport.state.environments import Environments as Known
from homeport.state.rows import EnvironmentRow, WorkspaceRow


class Environments:
    """Lists, creates and deletes environments: each has apps, secrets, volumes, dicts and queues of its own."""

    def __init__(self, store: Known, worlds: Worlds) -> None:
        self._store = store
        self._worlds = worlds

    @route("GET", "/v1/environment", needs=Permission.DEPLOY)
    async def current(self, scope: Scope) -> EnvironmentKey:
        """Return the request's environment, and the key by which a script calls its functions."""
        return EnvironmentKey(
            workspace=scope.workspace, name=scope.environment, key=self._store.key(scope)
        )

    @route("GET", "/v1/environments")
    async def every(self, caller: Caller) -> EnvironmentList:
        """List the environments."""
        rows = [row for row in self._store.of(caller.workspace) if caller.sees(row.scope)]
        return EnvironmentList(environments=tuple(map(_as_answer, rows)))

    @route("POST", "/v1/environments")
    async def create(self, caller: Caller, body: NewEnvironment) -> EnvironmentInfo:
        """Create an environment."""
        return _as_answer(await self._worlds.create(_scope(caller, body.name), body.web_suffix))

    @route("POST", "/v1/environments/{name}", action="environment update")
    async def update(self, caller: Caller, name: str, body: EnvironmentChange) -> EnvironmentInfo:
        """Change an environment's web suffix."""
        return _as_answer(await self._worlds.update(_scope(caller, name), body.web_suffix))

    @route("DELETE", "/v1/environments/{name}", needs=Permission.SECRETS)
    async def delete(self, caller: Caller, name: str) -> EnvironmentDeleted:
        """Delete an environment: stop its apps, and delete everything in it. It needs `deploy` too."""
        caller.check(Permission.DEPLOY)
        return EnvironmentDeleted(containers=await self._worlds.delete(_scope(caller, name)))


class Workspaces:
    """Lists, creates and deletes workspaces: tenants of the server, who see nothing of each other."""

    def __init__(self, store: Known, worlds: Worlds) -> None:
        self._store = store
        self._worlds = worlds

    @route("GET", "/v1/workspaces", needs=Permission.ADMIN)
    async def every(self, caller: Caller) -> WorkspaceList:
        """List the workspaces."""
        caller.check_server()
        return WorkspaceList(workspaces=tuple(map(self._as_answer, self._store.workspaces())))

    @route("POST", "/v1/workspaces", needs=Permission.ADMIN)
    async def create(self, caller: Caller, body: NewWorkspace) -> WorkspaceInfo:
        """Create a workspace, with an environment `main`."""
        caller.check_server()
        return self._as_answer(await self._worlds.create_workspace(body.name))

    @route("DELETE", "/v1/workspaces/{name}", needs=Permission.ADMIN)
    async def delete(self, caller: Caller, name: str) -> EnvironmentDeleted:
        """Delete a workspace: stop its apps, and delete everything in it."""
        caller.check_server()
        return EnvironmentDeleted(containers=await self._worlds.delete_workspace(name))

    def _as_answer(self, row: WorkspaceRow) -> WorkspaceInfo:
        return WorkspaceInfo(
            name=row.name,
            slug=row.slug,
            environments=len(self._store.of(row.name)),
            created_at=row.created_at,
        )


def _scope(caller: Caller, name: str) -> Scope:
    """Return an environment of the caller's workspace; `Forbidden` if the caller's token is for others."""
    return caller.scope(name or "?")  # which is not a name: empty would be `main`


def _as_answer(row: EnvironmentRow) -> EnvironmentInfo:
    return EnvironmentInfo(name=row.environment, web_suffix=row.suffix, created_at=row.created_at)
