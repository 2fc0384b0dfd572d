"""Deploys, rolls back and stops apps, for the API.

Each change checks its input, makes a revision and brings it up (`rollout`). An owner's changes take turns (`changes`). A stop cancels the
changes before it. `sessions` and `canaries` are parts of it.
"""

import asyncio
import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from homeport.contract.api.apps import CanaryStatus
from homeport.contract.api.deploys import Canary
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.image import Environment
from homeport.contract.manifest import Manifest
from homeport.contract.scope import Scope
from homeport.control.deploys import canaries, trial
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.canaries import BY_HAND, Canaries
from homeport.control.deploys.changes import Changes
from homeport.control.deploys.mounts import Mounts
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.restoring import Restoring
from homeport.control.deploys.rollout import Rollout
from homeport.control.deploys.sessions import Sessions
from homeport.control.deploys.trial import Say
from homeport.control.fleet.owner import Owner
from homeport.state.rows import Revision
from homeport.state.sweeper import Sweeper
from homeport.undo import Undo

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The result of a deploy."""

    app: LiveApp
    skipped: bool = False
    canary: CanaryStatus | None = None  # what a canary of the app has become


class Deployer:
    """Changes apps, one change of an owner at a time.

    One class, because deploys, canaries, rollbacks and stops of an app take turns.
    """

    def __init__(self, parts: Parts, rollout: Rollout, sweeper: Sweeper) -> None:
        self.live = parts.live
        self.settled: Callable[[], None] = lambda: None  # called after each change
        self.stopped: Callable[[Owner], Awaitable[None]] = _nothing  # called after each stop
        self._environments = parts.environments
        self._store = parts.store
        self._pools = parts.pools
        self._nodes = parts.nodes
        self._secrets = parts.secrets
        self._endpoints = parts.endpoints
        self._rollout = rollout
        self._sweeper = sweeper
        self.mounts = Mounts(parts, rollout)
        self._changes = Changes(ended=self._ended)
        self.sessions = Sessions(parts, rollout, self.mounts, self._changes)
        self.canaries = Canaries(parts, rollout)
        self._restoring = Restoring(parts, rollout, self.mounts, self._changes, self.canaries)
        self.broken = self._restoring.broken

    @property
    def busy(self) -> bool:
        """True if there is a session, or a change that has not ended."""
        return bool(self._changes) or any(app.ephemeral for app in self.live.all())

    def after_restore(self, call: Callable[[Revision], Awaitable[None]]) -> None:
        """Set the function that is called with each app that is served again after a restart."""
        self._restoring.restored = call

    async def quiet(self) -> None:
        """Wait until no change is running."""
        while self._changes:
            await asyncio.wait([change.task for change in self._changes])

    async def close(self) -> None:
        """Cancel all running changes; each is undone."""
        await self._restoring.close()
        await self._changes.close(BadRequest("the server is ending"))
        await self.canaries.close()

    async def deploy(
        self,
        scope: Scope,
        name: str,
        manifest: Manifest,
        *,
        tag: str,
        strategy: str,
        say: Say,
        drain_s: float | None = None,
        canary: Canary | None = None,
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> Deployed:
        """Make the manifest the app's next revision.

        With `rolling` the old revision serves until the new containers are ready. With `recreate`, or if
        there is no room for both, the old containers end first, and come back if the new ones fail.
        Running requests of the old revision may continue for `drain_s`, by default for their function's
        `timeout`. The deploy continues if the caller is cancelled. `then` is called after it, in the same turn.
        As a `canary` it gets a part of the requests beside the revision that serves.
        """
        trial.check(name, manifest, tag, strategy)
        if canary is not None:
            canaries.check(canary, strategy)
        self._environments.find(scope)  # it may have been deleted meanwhile
        owner = Owner.app(scope, name)
        work = self._deploy(owner, manifest, tag, strategy, say, drain_s, canary)
        return await self._changes.run("deploy", owner, work, then)

    async def rollback(
        self, scope: Scope, name: str, version: int | None, *, strategy: str, say: Say
    ) -> Deployed:
        """Serve an earlier revision again, as the app's next version; or end the app's canary.

        By default the version before the current one; for a stopped app, the version that served last.
        """
        self._environments.find(scope)
        owner = Owner.app(scope, name)
        work = self._roll_back(owner, version, strategy, say)
        return await self._changes.run("rollback", owner, work)

    async def promote(self, scope: Scope, name: str, by: str) -> Deployed:
        """Let the app's canary serve all requests."""
        owner = Owner.app(scope, name)
        return await self._changes.run("promote", owner, self._promote(owner, by))

    async def in_turn(self, kind: str, owner: Owner, work: Coroutine[Any, Any, T]) -> T:
        """Do another change of an owner when its changes before have ended."""
        return await self._changes.run(kind, owner, work)

    def is_settled(self, owner: Owner) -> bool:
        """Return whether a deployed app is neither being changed nor waiting to be restored."""
        return not self._changes.of(owner) and owner not in self.broken

    def is_changing(self, owner: Owner) -> bool:
        """Return whether a deployed app is being changed at this moment."""
        return bool(self._changes.of(owner))

    async def stop_in_turn(self, owner: Owner) -> None:
        """Stop a deployed app if it is not stopped; for the work of `in_turn`, which nothing comes between."""
        row = await self._store.of(owner.scope).app(owner.name)
        if row is not None and row.stopped_at is None:
            await self._stop(owner)

    def knows(self, scope: Scope, name: str) -> bool:
        """Return whether an app or session with this name serves, or is about to."""
        changing = bool(self._changes.of(Owner.app(scope, name)))
        return changing or any(app.name == name for app in self.live.of(scope))

    def in_use(self, scope: Scope) -> str:
        """Return the name of an app or session of an environment that serves, or is about to; empty: none does."""
        return min((owner.name for owner in self._owners(scope)), default="")

    async def stop_all(self, scope: Scope) -> int:
        """Stop every app and session of an environment; return how many containers end."""
        return sum([await self.stop(owner) for owner in self._owners(scope)])

    def _owners(self, scope: Scope) -> set[Owner]:
        serving = {app.owner for app in self.live.of(scope)}
        coming = (*self.broken, *self._changes.owners())
        return {*serving, *(owner for owner in coming if owner.scope == scope)}

    async def stop_app(self, scope: Scope, name: str) -> int:
        """Stop an app and all sessions with this name; return how many containers end."""
        deployed, row = Owner.app(scope, name), await self._store.of(scope).app(name)
        owners = [app.owner for app in self.live.of(scope) if app.name == name]
        coming = any(change.kind != "stop" for change in self._changes.of(deployed))
        if deployed not in owners and (coming or (row and row.stopped_at is None)):
            owners.append(deployed)
        if not owners:
            raise BadRequest("App is already stopped.")
        return sum([await self.stop(owner) for owner in owners])

    async def stop(self, owner: Owner) -> int:
        """Remove the owner's URLs and end its containers; return how many containers end."""
        before = self._changes.of(owner)
        stopping = self._changes.begin("stop", owner, self._stop(owner))
        for change in before:
            if change.kind != "stop":
                change.end(BadRequest("the app was stopped meanwhile"))
        return await stopping.result()

    async def prune(self) -> Collection[Environment]:
        """Delete image layers that no live app needs, and no version that a rollback could serve."""
        manifests = []
        for scope, row in await self._store.apps():
            if row.stopped_at is None:
                revisions = await self._store.of(scope).revisions(row.name)
                manifests += [revision.manifest for revision in revisions]
        # Listed last, because changes that began meanwhile need their layers too.
        manifests += [revision.manifest for revision in self._rollout.trees.in_use()]
        images = {spec.image.key: spec.image for m in manifests for spec in m.functions}
        return await self._nodes.prune(list(images.values()))

    async def restore(self, running: Collection[str]) -> None:
        """Serve the apps again that were deployed when the server ended (restoring.py)."""
        await self.canaries.load()
        await self._restoring.begin(running)
        self._sweeper.soon()

    async def _deploy(
        self,
        owner: Owner,
        manifest: Manifest,
        tag: str,
        strategy: str,
        say: Say,
        drain_s: float | None,
        canary: Canary | None,
    ) -> Deployed:
        box = self._secrets.of(owner.scope)
        await self._store.of(owner.scope).forget_unserved(owner.name)
        manifest = dataclasses.replace(manifest, app_name=owner.name)
        manifest = await self.mounts.resolve(owner.scope, manifest)
        async with box.sealing(manifest) as (sealed, fingerprint):
            current = self.live.get(owner)
            forced = any(
                step.args.get("force_build") for f in sealed.functions for step in f.image.steps
            )
            if current and current.revision.fingerprint == fingerprint and not forced:
                ended = await self.canaries.end(
                    owner, current, "the other version was deployed again"
                )
                return Deployed(app=current, skipped=True, canary=ended)
            running = self.canaries.of(owner)
            if current and running and running.revision.fingerprint == fingerprint and not forced:
                return await self._same(owner, current, canary)
            trial.check_node(sealed, self._nodes, box, say=say)
            await self.canaries.end(owner, current, "another version was deployed")
            async with self._revision(owner, sealed, fingerprint, tag) as revision:
                if canary is not None and current is not None:
                    canary_status = await self.canaries.begin(owner, revision, current, canary, say)
                    return Deployed(app=current, canary=canary_status)
                if canary is not None:
                    say(f"no version of `{owner.name}` serves, so this one serves all requests")
                app = await self._rollout.bring(
                    owner, revision, current, strategy=strategy, say=say, drain_s=drain_s
                )
        self._served(app, current)
        return Deployed(app=app)

    async def _roll_back(
        self, owner: Owner, version: int | None, strategy: str, say: Say
    ) -> Deployed:
        store, name = self._store.of(owner.scope), owner.name
        row = await store.app(name)
        current = self.live.get(owner)
        if row is None:
            raise NotFound(f"No App with name '{name}' found.")
        if not row.version:
            raise BadRequest(f"the app `{name}` is not deployed")
        ended = await self.canaries.end(owner, current, BY_HAND)
        if ended is not None and current is not None and version in (None, row.version):
            return Deployed(app=current, canary=ended)
        if version is None:
            version = row.version if row.stopped_at is not None else row.version - 1
            while version in self.canaries.rolled_back(owner):
                version -= 1
        if version < 1:
            raise NotFound(f"the app `{name}` has no version before v{row.version}")
        await store.forget_unserved(name)
        old = await store.revision(name, version)
        trial.check_node(old.manifest, self._nodes, self._secrets.of(owner.scope), say=say)
        self.mounts.check(owner.scope, old.manifest)
        # Keep the old fingerprint, because the inline secrets are stored under it.
        async with self._revision(owner, old.manifest, old.fingerprint, old.tag) as revision:
            app = await self._rollout.bring(owner, revision, current, strategy=strategy, say=say)
        self._served(app, current)
        return Deployed(app=app)

    async def _same(self, owner: Owner, current: LiveApp, canary: Canary | None) -> Deployed:
        """Deploy again what is a canary: with another share, or whole."""
        if canary is None:
            return await self._promote(owner, "a deploy")
        changed = await self.canaries.change(owner, current, canary)
        return Deployed(app=current, canary=changed)

    async def _promote(self, owner: Owner, by: str) -> Deployed:
        current = self.live.get(owner)
        if current is None:
            raise NotFound(f"No App with name '{owner.name}' found.")
        app = await self.canaries.promote(owner, current, f"by {by}")
        return Deployed(app=app, canary=self.canaries.status(owner))

    def _served(self, app: LiveApp, before: LiveApp | None) -> None:
        """Set the app live; if it was stopped before, restore its earlier versions in the background."""
        self.broken.pop(app.owner, None)
        if before is None:
            self._changes.begin("earlier versions", app.owner, self._restore_versions(app.owner))

    async def _restore_versions(self, owner: Owner) -> None:
        if (app := self.live.get(owner)) is not None:
            await self._rollout.versions.restore(app.revision, owner)

    @contextlib.asynccontextmanager
    async def _revision(
        self, owner: Owner, manifest: Manifest, fingerprint: str, tag: str
    ) -> AsyncIterator[Revision]:
        """Yield the app's next version; delete it if the block fails."""
        store = self._store.of(owner.scope)
        async with Undo(f"deploying {owner}") as undo:
            revision = f"rv-{secrets.token_hex(6)}"
            undo.push(store.remove_revision, revision)
            yield await store.add_revision(revision, owner.name, manifest, fingerprint, tag)

    async def _stop(self, owner: Owner) -> int:
        app, name = self.live.get(owner), owner.name
        async with Undo(f"stopping {owner}") as undo:
            if owner.is_app:
                store = self._store.of(owner.scope)
                undo.push(store.put_back, name, await store.served(name))
                await store.stop_app(name)
                await self._rollout.versions.unroute(undo, owner.scope, name)
            for endpoint in app.endpoints if app else ():
                await self._endpoints.unroute(undo, owner, endpoint)
        self.live.put(owner, None)
        await self.canaries.end(owner, None, "the app was stopped")
        self.sessions.forget(owner)
        self.broken.pop(owner, None)
        pools = [pool for pool in self._pools if pool.owner == owner]
        for pool in pools:
            pool.refuse(NotFound("app for invoked web endpoint is stopped"))
        count = sum(len(pool.members) for pool in pools)
        self._rollout.retire(pools, drain_s=0.0)
        await self.stopped(owner)
        return count

    def _ended(self) -> None:
        self._sweeper.soon()
        self.settled()


async def _nothing(_owner: Owner) -> None:
    pass
