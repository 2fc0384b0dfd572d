"""Creates and deletes environments and workspaces, with everything in them.

Called by the API. While an environment is being deleted no request finds it. If the deletion fails, requests find it
again, perhaps without some of its apps, and it can be deleted once more. A request that found it before may still write
something after everything was deleted, so a new environment is emptied before a request finds it.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from homeport import removing
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.scope import Scope
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.parts import Parts
from homeport.state.alerts import Alerts
from homeport.state.api_tokens import ApiTokens
from homeport.state.captures import Captures
from homeport.state.coldstarts import ColdStarts
from homeport.state.expiries import Expiries
from homeport.state.logs import Logs
from homeport.state.rate_limits import RateLimits
from homeport.state.requests import Requests
from homeport.state.rows import EnvironmentRow, WorkspaceRow
from homeport.state.shared import Shared
from homeport.state.tokens import Tokens
from homeport.state.usage import Usages
from homeport.undo import Undo

GONE_S = 60.0  # how long a deletion waits for the containers
LOOK_S = 0.1


class Worlds:
    """All environments, and their contents."""

    def __init__(
        self,
        parts: Parts,
        deployer: Deployer,
        shared: Shared,
        logs: Logs,
        tokens: Tokens,
        rate_limits: RateLimits,
        api_tokens: ApiTokens,
        expiries: Expiries,
        cold_starts: ColdStarts,
        requests: Requests,
        usages: Usages,
        captures: Captures,
        alerts: Alerts,
    ) -> None:
        self._parts = parts
        self._environments = parts.environments
        self._deployer = deployer
        self._shared = shared
        self._logs = logs
        self._tokens, self._api_tokens = tokens, api_tokens
        self._rate_limits = rate_limits
        self._expiries = expiries
        self._cold_starts = cold_starts
        self._requests = requests
        self._usages = usages
        self._captures = captures
        self._alerts = alerts
        self._turn = asyncio.Lock()

    async def create(self, scope: Scope, suffix: str | None) -> EnvironmentRow:
        """Create an environment."""
        async with self._turn:
            row = await self._environments.create(scope, suffix)
            async with Undo(f"creating the environment {scope}") as undo:
                undo.push(self._environments.delete, scope)
                await self._open(scope)
            return row

    async def update(self, scope: Scope, suffix: str) -> EnvironmentRow:
        """Change the web suffix; `BadRequest` while an app serves, because all its URLs would change."""
        async with self._turn:
            before = self._environments.find(scope)
            if before.suffix != suffix and (busy := self._deployer.in_use(scope)):
                raise BadRequest(
                    f"`{busy}` has URLs with the web suffix of `{scope.environment}`",
                    hint="stop the apps of the environment first: `homeport app list` has them",
                )
            row = await self._environments.set_suffix(scope, suffix)
            self._parts.plans.forget_all()
            return row

    async def delete(self, scope: Scope) -> int:
        """Delete an environment and everything in it; return how many containers end."""
        async with self._turn:
            self._environments.close(scope)
            try:
                count = await self._empty([scope])
                await self._environments.delete(scope)
            finally:
                self._environments.reopen(scope)
            await self._forget([scope])
            return count

    async def create_workspace(self, name: str) -> WorkspaceRow:
        """Create a workspace with an environment `main`."""
        async with self._turn:
            row = await self._environments.create_workspace(name)
            async with Undo(f"creating the workspace `{name}`") as undo:
                undo.push(self._environments.delete_workspace, name)
                await self._leave(name)
                await self._open(Scope(name))
            return row

    async def delete_workspace(self, name: str) -> int:
        """Delete a workspace and everything in it; return how many containers end."""
        async with self._turn:
            scopes = self._environments.close_workspace(name)
            try:
                count = await self._empty(scopes)
                await self._environments.delete_workspace(name)
            finally:
                for scope in scopes:
                    self._environments.reopen(scope)
            await self._leave(name)
            await self._forget(scopes)
            return count

    async def _leave(self, workspace: str) -> None:
        """Take away the tokens of a workspace, and its right to the files that it has uploaded."""
        await self._api_tokens.delete_workspace(workspace)
        await self._parts.blobs.forget(workspace)

    async def _open(self, scope: Scope) -> None:
        """Remove the rest of a deleted environment with this name, and let requests find the new one."""
        await self._forget([scope])
        await self._parts.secrets.of(scope).load()
        await self._parts.volumes.of(scope).load()
        await self._shared.load(scope)
        self._environments.reopen(scope)

    async def _empty(self, scopes: Sequence[Scope]) -> int:
        """Stop every app, wait for the containers, and delete the volumes."""
        count = sum([await self._deployer.stop_all(scope) for scope in scopes])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                while any(
                    container.order.within in scopes for container in self._parts.nodes.containers()
                ):
                    await asyncio.sleep(LOOK_S)
        for scope in scopes:
            self._cold_starts.drop(scope)
            volumes = self._parts.volumes.of(scope)
            for row in volumes.list():
                with contextlib.suppress(NotFound):
                    await volumes.delete(row.id)
        return count

    async def _forget(self, scopes: Sequence[Scope]) -> None:
        for scope in scopes:
            self._parts.secrets.forget(scope)
            self._parts.volumes.forget(scope)
            self._shared.forget(scope)
            self._expiries.drop(scope)
            self._deployer.canaries.rows.drop(scope)
            self._alerts.drop(scope)
            self._parts.domains.drop(scope)
            self._logs.remove(scope)
            self._requests.remove(scope)
            await asyncio.to_thread(self._usages.remove, scope)
            await asyncio.to_thread(self._captures.remove, scope)
            folder = self._parts.settings.volumes_dir / scope.workspace / scope.environment
            await asyncio.to_thread(removing.discard, str(folder))
        await self._tokens.publish()
        await self._rate_limits.publish()
