"""Earlier versions of deployed apps: each keeps a URL of its own, and no container that nobody uses.

`ada--shop-hello-v3.localhost` leads to version 3 for as long as it is kept; its containers start when
somebody asks and go soon after. A `web_server`'s versions have none, for they share one port.
"""

import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from homeport.contract.errors import Failure
from homeport.contract.roles import Ingress
from homeport.control import live
from homeport.control.pools import Pools
from homeport.control.reconciler import Reconciler
from homeport.control.store import Revision, Store
from homeport.settings import Settings

log = logging.getLogger(__name__)
KEPT = 10  # versions of an app, the current one included


class Versions:
    """What `app history` lists and `app rollback` can go back to."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        pools: Pools,
        ingress: Ingress,
        reconciler: Reconciler,
        trees: Path,
        lay_out: Callable[[Revision], Awaitable[Path]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._pools = pools
        self._ingress = ingress
        self._reconciler = reconciler
        self._trees = trees
        self._lay_out = lay_out
        self._routed: dict[str, list[str]] = {}  # revision -> its endpoints' ids

    async def moved(self, revision: Revision) -> None:
        """A version serves: it has its own URL too, and the oldest ones go."""
        await self._route(revision)
        for old in self._store.revisions(revision.app)[KEPT:]:
            await self._forget(old)
            self._store.remove_revision(old)

    async def restore(self, current: Revision, owner: str) -> None:
        """After a restart: the versions before the current one answer at their URLs again."""
        await self._route(current)
        for old in self._store.revisions(current.app):
            if old.id == current.id:
                continue
            try:
                tree = await self._lay_out(old)
            except Failure as failure:
                log.error("cannot restore `%s` v%d: %s", old.app, old.version, failure.message)  # noqa: TRY400
                continue
            for pool in live.pools(old, self._settings, owner=owner, tree=tree):
                pool.demote(0.0)
                self._pools.add(pool)
            await self._route(old)

    async def stopped(self, app: str) -> None:
        """The app is stopped: none of its versions answers."""
        for revision in self._store.revisions(app):
            await self._unroute(revision)

    async def _route(self, revision: Revision) -> None:
        planned = live.plan(revision, self._settings, of_version=True)
        taken = {p.endpoint.id for p in planned.values()} & self._others(revision)
        ids = []
        for endpoint, each in planned.items():
            if endpoint not in taken:
                await self._ingress.route(each.endpoint)
                ids.append(endpoint)
        self._routed[revision.id] = ids

    def _others(self, revision: Revision) -> set[str]:
        """URLs that other versions and apps have: a label may look like a version."""
        known = {e for r, ids in self._routed.items() if r != revision.id for e in ids}
        return known | set(self._store.local_ports())

    async def _unroute(self, revision: Revision) -> None:
        for endpoint in self._routed.pop(revision.id, ()):
            await self._ingress.unroute(endpoint)

    async def _forget(self, revision: Revision) -> None:
        await self._unroute(revision)
        for pool in self._pools.of_revision(revision.app, revision.id):
            pool.retired, pool.drain_s = True, 0.0
            pool.release()
        self._reconciler.wake()
        shutil.rmtree(self._trees / revision.id, ignore_errors=True)
