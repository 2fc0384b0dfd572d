"""Deploys, rolls back, serves, reloads and stops apps, for the API.

Each change checks its input, makes a revision and brings it up (`rollout`). A `serve` session is the same
deploy under a `-dev` name, kept only in memory. An owner's changes take turns (`changes`). A stop cancels the changes before it; a reload
cancels earlier reloads of the session.
"""

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import Any, TypeVar

from homeport.contract.api import events
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.image import Environment
from homeport.contract.manifest import Manifest
from homeport.contract.traffic import RequestRecord
from homeport.control.deploys import trial
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.changes import Changes
from homeport.control.deploys.mounts import Mounts
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.rollout import Rollout, tell
from homeport.control.deploys.trial import Say
from homeport.control.fleet.owner import Owner
from homeport.state.rows import AppRow, Revision
from homeport.state.sweeper import Sweeper
from homeport.supervised import Tasks
from homeport.undo import Undo

BACKLOG = 1000  # events that a session's command may lag behind; then requests are left out
RESTORE_S = 30.0  # how long the server's start waits for its apps; slower ones are restored later
FIRST_RETRY_S = (
    5.0  # before the first retry of an app that cannot be restored, then twice as long each time
)
LONGEST_RETRY_S = 300.0

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The result of a deploy."""

    app: LiveApp
    skipped: bool = False


class Deployer:
    """Changes apps and sessions, one change of an owner at a time.

    One class, because deploys, sessions, rollbacks and stops of an app take turns.
    """

    def __init__(self, parts: Parts, rollout: Rollout, sweeper: Sweeper) -> None:
        self.live = parts.live
        self.settled: Callable[[], None] = lambda: None  # called after each change
        self.restored: Callable[[Revision], Awaitable[None]] | None = None  # after each restore
        self.broken: dict[str, str] = {}  # deployed apps that cannot be restored, and why
        self._store = parts.store
        self._pools = parts.pools
        self._ingress = parts.ingress
        self._nodes = parts.nodes
        self._secrets = parts.secret_box
        self._endpoints = parts.endpoints
        self._rollout = rollout
        self._sweeper = sweeper
        self.mounts = Mounts(parts, rollout)
        self._changes = Changes(ended=self._ended)
        self._warned: dict[Owner, set[str]] = {}  # by the session's owner
        self._tasks = Tasks()

    @property
    def busy(self) -> bool:
        """True if there is a session, or a change that has not ended."""
        return bool(self._changes) or any(app.ephemeral for app in self.live.all())

    async def quiet(self) -> None:
        """Wait until no change is running."""
        while self._changes:
            await asyncio.wait([change.task for change in self._changes])

    async def close(self) -> None:
        """Cancel all running changes; each is undone."""
        await self._tasks.close()
        await self._changes.close(BadRequest("the server is ending"))

    async def deploy(
        self,
        name: str,
        manifest: Manifest,
        *,
        tag: str,
        strategy: str,
        say: Say,
        drain_s: float | None = None,
    ) -> Deployed:
        """Make the manifest the app's next revision.

        With `rolling` the old revision serves until the new containers are ready. With `recreate`, or if
        there is no room for both, the old containers end first, and come back if the new ones fail.
        Running requests of the old revision may go on for `drain_s`, by default for their function's
        `timeout`. The deploy continues if the caller is cancelled.
        """
        trial.check(name, manifest, tag, strategy)
        work = self._deploy(name, manifest, tag, strategy, say, drain_s)
        return await self._changes.run("deploy", Owner.app(name), work)

    async def rollback(
        self, name: str, version: int | None, *, strategy: str, say: Say
    ) -> Deployed:
        """Serve an earlier revision again, as the app's next version.

        By default the version before the current one; for a stopped app, the version that served last.
        """
        work = self._roll_back(name, version, strategy, say)
        return await self._changes.run("rollback", Owner.app(name), work)

    async def serve(self, session: str, manifest: Manifest, say: Say) -> LiveApp:
        """Start a session; its containers start while the caller prints the URLs."""
        trial.check(manifest.app_name, manifest, "", "rolling")
        owner = Owner.session(session)
        app = await self._changes.run("serve", owner, self._serve(owner, manifest, None, say))
        self._ingress.hear(self._show)
        return app

    async def reload(self, session: str, manifest: Manifest) -> LiveApp:
        """Replace a session's version; after a failure the old version serves on."""
        owner = Owner.session(session)
        for change in self._changes.of(owner):
            if change.kind == "reload":  # what was saved last counts
                change.end(BadRequest("a later version has taken this one's place"))
        return await self._changes.run("reload", owner, self._reload(owner, manifest))

    async def in_turn(self, kind: str, owner: Owner, work: Coroutine[Any, Any, T]) -> T:
        """Do another change of an owner when its changes before have ended."""
        return await self._changes.run(kind, owner, work)

    def is_settled(self, name: str) -> bool:
        """Return whether a deployed app is neither being changed nor waiting to be restored."""
        return not self._changes.of(Owner.app(name)) and name not in self.broken

    def is_changing(self, name: str) -> bool:
        """Return whether a deployed app is being changed at this moment."""
        return bool(self._changes.of(Owner.app(name)))

    async def stop_deployed(self, name: str) -> int:
        """Stop a deployed app, and no session of its name; `BadRequest` if it is stopped."""
        row = await self._store.app(name)
        if row is None or row.stopped_at is not None:
            raise BadRequest("App is already stopped.")
        return await self.stop(Owner.app(name))

    def knows(self, name: str) -> bool:
        """Return whether an app or session with this name serves, or is about to."""
        owner = Owner.app(name)
        return bool(self._changes.of(owner)) or any(app.name == name for app in self.live.all())

    async def stop_app(self, name: str) -> int:
        """Stop an app and all sessions with this name; return how many containers end."""
        deployed, row = Owner.app(name), await self._store.app(name)
        owners = [app.owner for app in self.live.all() if app.name == name]
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
        for row in await self._store.apps():
            if row.stopped_at is None:
                manifests += [each.manifest for each in await self._store.revisions(row.name)]
        # Listed last, because changes that began meanwhile need their layers too.
        manifests += [revision.manifest for revision in self._rollout.trees.in_use()]
        images = {spec.image.key: spec.image for m in manifests for spec in m.functions}
        return await self._nodes.prune(list(images.values()))

    async def restore(self, running: Collection[str]) -> None:
        """Serve the apps again that were deployed when the server ended.

        `running` are the revisions that still have containers: their source trees stay unchanged. An app
        that cannot be restored is in `broken`, and is tried again; the others are served.
        """
        await asyncio.to_thread(self._rollout.trees.sweep, running)
        with contextlib.suppress(Failure):  # a full disk
            await self._store.forget_unserved()
        rows = [row for row in await self._store.apps() if row.stopped_at is None and row.version]
        for row in rows:
            self.broken[row.name] = "it is being restored"
        restoring = self._tasks.start("restoring the apps", self._restore(rows))
        await asyncio.wait([restoring], timeout=RESTORE_S)
        self._sweeper.soon()

    async def _restore(self, rows: list[AppRow]) -> None:
        for row in rows:
            if not await self._restored(row.name):
                self._tasks.start(f"restoring `{row.name}`", self._restore_later(row.name))

    async def _restore_later(self, name: str) -> None:
        wait_s = FIRST_RETRY_S
        while name in self.broken:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_RETRY_S)
            if await self._restored(name):
                return

    async def _restored(self, name: str) -> bool:
        """Try to serve an app again; return False to try later."""
        try:
            await self._changes.run("restore", Owner.app(name), self._restore_one(name))
        except Exception as error:
            told = (
                error.message if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
            )
            if self.broken.get(name) != told:
                log.error("cannot restore `%s`: %s", name, told)  # noqa: TRY400
            self.broken[name] = told
            return False
        self.broken.pop(name, None)
        return True

    async def _restore_one(self, name: str) -> None:
        row, owner = await self._store.app(name), Owner.app(name)
        if row is None or row.stopped_at is not None or self.live.get(owner) is not None:
            return  # it was changed meanwhile
        revision = await self._store.revision(name, row.version)
        self.mounts.check(revision.manifest)
        await self._rollout.bring(owner, revision, None, strategy="restore")
        await self._rollout.versions.restore(revision, owner)
        if self.restored is not None:
            await self.restored(revision)

    async def _deploy(
        self,
        name: str,
        manifest: Manifest,
        tag: str,
        strategy: str,
        say: Say,
        drain_s: float | None,
    ) -> Deployed:
        owner = Owner.app(name)
        await self._store.forget_unserved(name)
        manifest = await self.mounts.resolve(dataclasses.replace(manifest, app_name=name))
        async with self._secrets.sealing(manifest) as (sealed, fingerprint):
            current = self.live.get(owner)
            forced = any(
                step.args.get("force_build") for f in sealed.functions for step in f.image.steps
            )
            if current and current.revision.fingerprint == fingerprint and not forced:
                return Deployed(app=current, skipped=True)
            trial.check_node(sealed, self._nodes, self._secrets)
            async with self._revision(name, sealed, fingerprint, tag) as revision:
                app = await self._rollout.bring(
                    owner, revision, current, strategy=strategy, say=say, drain_s=drain_s
                )
        self._served(app, current)
        return Deployed(app=app)

    async def _roll_back(self, name: str, version: int | None, strategy: str, say: Say) -> Deployed:
        row = await self._store.app(name)
        current = self.live.get(owner := Owner.app(name))
        if row is None:
            raise NotFound(f"No App with name '{name}' found.")
        if not row.version:
            raise BadRequest(f"the app `{name}` is not deployed")
        if version is None:
            version = row.version if row.stopped_at is not None else row.version - 1
        if version < 1:
            raise NotFound(f"the app `{name}` has no version before v{row.version}")
        await self._store.forget_unserved(name)
        old = await self._store.revision(name, version)
        trial.check_node(old.manifest, self._nodes, self._secrets)
        self.mounts.check(old.manifest)
        # Keep the old fingerprint, because the inline secrets are stored under it.
        async with self._revision(name, old.manifest, old.fingerprint, old.tag) as revision:
            app = await self._rollout.bring(owner, revision, current, strategy=strategy, say=say)
        self._served(app, current)
        return Deployed(app=app)

    def _served(self, app: LiveApp, before: LiveApp | None) -> None:
        """Set the app live; if it was stopped before, restore its earlier versions in the background."""
        self.broken.pop(app.name, None)
        if before is None:
            self._changes.begin("earlier versions", app.owner, self._restore_versions(app.owner))

    async def _restore_versions(self, owner: Owner) -> None:
        if (app := self.live.get(owner)) is not None:
            await self._rollout.versions.restore(app.revision, owner)

    @contextlib.asynccontextmanager
    async def _revision(
        self, name: str, manifest: Manifest, fingerprint: str, tag: str
    ) -> AsyncIterator[Revision]:
        """Yield the app's next version; delete it if the block fails."""
        async with Undo(f"deploying `{name}`") as undo:
            revision = f"rv-{secrets.token_hex(6)}"
            undo.push(self._store.remove_revision, revision)
            yield await self._store.add_revision(revision, name, manifest, fingerprint, tag)

    async def _reload(self, owner: Owner, manifest: Manifest) -> LiveApp:
        current = self.live.get(owner)
        if current is None:
            raise NotFound("this session has ended")
        trial.check(manifest.app_name, manifest, "", "rolling")

        def say(text: str) -> None:
            tell(current, events.Progress(text=text))

        return await self._serve(owner, manifest, current, say)

    async def _serve(
        self, owner: Owner, manifest: Manifest, current: LiveApp | None, say: Say
    ) -> LiveApp:
        manifest = await self.mounts.resolve(manifest)
        async with self._secrets.sealing(manifest) as (sealed, fingerprint):
            warn = partial(self._warn, owner, say)
            trial.check_node(sealed, self._nodes, self._secrets, lacking=warn)
            revision = Revision(
                id=f"rv-{secrets.token_hex(6)}",
                app=manifest.app_name,
                version=0,
                manifest=sealed,
                fingerprint=fingerprint,
                created_at=time.time(),
            )
            return await self._rollout.bring(owner, revision, current, strategy="rolling", say=say)

    def _show(self, request: RequestRecord) -> None:
        """Send a request to its session's command; if the command is too slow, count the requests left out."""
        app = self.live.owner_of(request.endpoint)
        if app is None or app.events is None:
            return
        if app.events.qsize() > BACKLOG:
            app.untold += 1
            return
        tag = app.endpoints[request.endpoint].tag
        tell(app, events.Request(tag=tag, request=request, untold=app.untold))
        app.untold = 0

    async def _stop(self, owner: Owner) -> int:
        app, name = self.live.get(owner), owner.name
        async with Undo(f"stopping {owner}") as undo:
            if owner.is_app:
                before = await self._store.served(name)
                undo.push(self._store.put_back, name, before)
                await self._store.stop_app(name)
                await self._rollout.versions.unroute(undo, name)
            for endpoint in app.endpoints if app else ():
                await self._endpoints.unroute(undo, owner, endpoint)
        self.live.put(owner, None)
        if not any(app.ephemeral for app in self.live.all()):
            self._ingress.hear(None)
        self.broken.pop(name, None)
        self._warned.pop(owner, None)
        pools = [pool for pool in self._pools if pool.owner == owner]
        for pool in pools:
            pool.refuse(NotFound("app for invoked web endpoint is stopped"))
        count = sum(len(pool.members) for pool in pools)
        self._rollout.retire(pools, drain_s=0.0)
        return count

    def _ended(self) -> None:
        self._sweeper.soon()
        self.settled()

    def _warn(self, owner: Owner, say: Say, text: str) -> None:
        """Show a warning once in a session, also if the session is reloaded."""
        if text not in (said := self._warned.setdefault(owner, set())):
            said.add(text)
            say(text)
