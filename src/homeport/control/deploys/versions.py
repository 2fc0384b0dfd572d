"""Earlier versions of deployed apps: each keeps a URL of its own, but no container while it has no requests.

`ada--shop-hello-v3.localhost` leads to version 3 for as long as it is kept; its containers start when
a request comes and end soon after. A `web_server`'s versions have no URL where they share one port of this machine.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from homeport.contract.scope import Scope
from homeport.control.deploys import plans
from homeport.control.deploys.parts import Parts
from homeport.control.fleet.owner import Owner
from homeport.state.rows import Revision
from homeport.undo import Undo

log = logging.getLogger(__name__)
KEPT = 10  # versions of an app, the current one included


class Versions:
    """The versions that `app history` lists and `app rollback` can go back to."""

    def __init__(
        self,
        parts: Parts,
        *,
        lay_out: Callable[[Revision], Awaitable[Path]],
    ) -> None:
        self._plans = parts.plans
        self._store = parts.store
        self._pools = parts.pools
        self._endpoints = parts.endpoints
        self._reconciler = parts.reconciler
        self._lay_out = lay_out

    async def route(self, undo: Undo, revision: Revision) -> None:
        """Make a version answer at its own URLs, except those that others have.

        A label may look like a version's.
        """
        holder = _holder(revision)
        planned = self._plans.of(revision).of_version
        reserved = await self._store.local_ports()
        for endpoint, live_endpoint in planned.items():
            if endpoint not in reserved and self._endpoints.holder(endpoint) in (None, holder):
                await self._endpoints.route(undo, holder, live_endpoint.endpoint)

    async def restore(self, current: Revision, owner: Owner) -> None:
        """Route the URLs of the versions before the current one again, after a restart.

        If one fails, that is logged, and the others are routed all the same.
        """
        for revision in await self._store.of(owner.scope).revisions(current.app):
            try:
                async with Undo(f"restoring `{revision.app}` v{revision.version}") as undo:
                    if revision.id != current.id:
                        tree = await self._lay_out(revision)
                        self._open_pools(undo, revision, owner, tree)
                    await self.route(undo, revision)
            except Exception as error:
                log.error("cannot restore `%s` v%d: %s", revision.app, revision.version, error)  # noqa: TRY400

    async def unroute(self, undo: Undo, scope: Scope, app: str) -> None:
        """Remove the URLs of all of the app's versions."""
        for revision in await self._store.of(scope).revisions(app):
            await self._unroute(undo, revision)

    async def trim(self, scope: Scope, app: str) -> None:
        """Forget the oldest versions, but not the one that serves: there may have been many canaries after it."""
        store = self._store.of(scope)
        row = await store.app(app)
        for revision in (await store.revisions(app))[KEPT:]:
            if row is not None and revision.version == row.version:
                continue
            async with Undo(f"forgetting `{app}` v{revision.version}") as undo:
                await self._unroute(undo, revision)
                await store.remove_revision(revision.id)
            pools = self._pools.of_revision(app, revision.id)
            for pool in pools:
                pool.retire(0.0)
                self._reconciler.wake(pool)

    def _open_pools(self, undo: Undo, revision: Revision, owner: Owner, tree: Path) -> None:
        plan = self._plans.of(revision)
        for planned in plans.pools(revision, plan, owner=owner, tree=tree):
            pool = self._pools.open(planned)
            pool.demote(0.0)
            undo.push(pool.retire, 0.0)

    async def _unroute(self, undo: Undo, revision: Revision) -> None:
        for endpoint in self._endpoints.of(_holder(revision)):
            await self._endpoints.unroute(undo, _holder(revision), endpoint)


def _holder(revision: Revision) -> Owner:
    return Owner.version(revision.scope, revision.id)
