"""Serves the deployed apps again after a restart of the server; an app that cannot be served is tried again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

from homeport.contract.errors import Failure
from homeport.control.deploys.canaries import Canaries
from homeport.control.deploys.changes import Changes
from homeport.control.deploys.mounts import Mounts
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.rollout import Rollout
from homeport.control.fleet.owner import Owner
from homeport.state.rows import Revision
from homeport.supervised import Tasks

RESTORE_S = 30.0  # how long the server's start waits for its apps; slower ones are restored later
FIRST_RETRY_S = 5.0  # before an app that cannot be restored is tried again, then twice as long
LONGEST_RETRY_S = 300.0

log = logging.getLogger(__name__)


class Restoring:
    """The apps that are being restored, and those that cannot be."""

    def __init__(
        self,
        parts: Parts,
        rollout: Rollout,
        mounts: Mounts,
        changes: Changes,
        canaries: Canaries,
    ) -> None:
        """`changes` are those of the deployer: a restore takes its turn among them."""
        self.restored: Callable[[Revision], Awaitable[None]] | None = None  # after each restore
        self.broken: dict[Owner, str] = {}  # deployed apps that cannot be restored, and why
        self._live = parts.live
        self._store = parts.store
        self._rollout = rollout
        self._mounts = mounts
        self._changes = changes
        self._canaries = canaries
        self._tasks = Tasks()

    async def close(self) -> None:
        """Try none again."""
        await self._tasks.close()

    async def begin(self, running: Collection[str]) -> None:
        """Serve the apps again that were deployed when the server ended.

        `running` are the revisions that still have containers: their source trees stay unchanged. An app
        that cannot be restored is in `broken`, and is tried again; the others are served.
        """
        await asyncio.to_thread(self._rollout.trees.sweep, running)
        with contextlib.suppress(Failure):  # a full disk
            await self._store.forget_unserved()
        owners = [
            Owner.app(scope, row.name)
            for scope, row in await self._store.apps()
            if row.stopped_at is None and row.version
        ]
        self.broken.update(dict.fromkeys(owners, "it is being restored"))
        restoring = self._tasks.start("restoring the apps", self._restore(owners))
        await asyncio.wait([restoring], timeout=RESTORE_S)

    async def _restore(self, owners: list[Owner]) -> None:
        for owner in owners:
            if not await self._restored(owner):
                self._tasks.start(f"restoring {owner}", self._restore_later(owner))

    async def _restore_later(self, owner: Owner) -> None:
        wait_s = FIRST_RETRY_S
        while owner in self.broken:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_RETRY_S)
            if await self._restored(owner):
                return

    async def _restored(self, owner: Owner) -> bool:
        """Try to serve an app again; return False to try later."""
        try:
            await self._changes.run("restore", owner, self._restore_one(owner))
        except Exception as error:
            reason = (
                error.message if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
            )
            if self.broken.get(owner) != reason:
                log.error("cannot restore %s: %s", owner, reason)  # noqa: TRY400
            self.broken[owner] = reason
            return False
        self.broken.pop(owner, None)
        return True

    async def _restore_one(self, owner: Owner) -> None:
        store = self._store.of(owner.scope)
        row = await store.app(owner.name)
        if row is None or row.stopped_at is not None or self._live.get(owner) is not None:
            return  # it was changed meanwhile
        revision = await store.revision(owner.name, row.version)
        self._mounts.check(owner.scope, revision.manifest)
        app = await self._rollout.bring(owner, revision, None, strategy="restore")
        await self._rollout.versions.restore(revision, owner)
        await self._canaries.restore(owner, app)
        if self.restored is not None:
            await self.restored(revision)
