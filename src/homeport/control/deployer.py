"""What callers ask for: deploy, roll back, serve, reload, stop.

Each reads as: check it, make it a revision, bring it up (`rollout`). A `serve` session is the same deploy
under a `-dev` name, kept in memory alone.
"""

import asyncio
import dataclasses
import logging
import secrets
import shutil
import time
from collections.abc import Collection
from functools import partial

from homeport.contract import codec
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.image import Environment
from homeport.contract.manifest import Manifest
from homeport.contract.roles import Ingress, Node
from homeport.contract.traffic import RequestRecord
from homeport.control import trial
from homeport.control.live import LiveApp
from homeport.control.pools import Pools
from homeport.control.rollout import Rollout, tell
from homeport.control.secretbox import SecretBox
from homeport.control.store import Revision, Store
from homeport.control.trial import Say

BACKLOG = 1000  # events that a session's command may lag behind before it is not told of requests

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How a deploy ended."""

    app: LiveApp
    skipped: bool = False


class Deployer:
    """Every app and every session, one change at a time."""

    def __init__(
        self,
        store: Store,
        pools: Pools,
        ingress: Ingress,
        node: Node,
        secret_box: SecretBox,
        rollout: Rollout,
    ) -> None:
        self.live = rollout.live
        self._store = store
        self._pools = pools
        self._ingress = ingress
        self._node = node
        self._secrets = secret_box
        self._rollout = rollout
        self._turns: dict[str, asyncio.Lock] = {}  # one deploy of an app at a time
        self._tickets: dict[str, object] = {}  # the last one that asked to reload a session
        self._reloads: dict[str, asyncio.Task[LiveApp]] = {}  # by the session's owner
        self._warned: dict[str, set[str]] = {}  # by the session's owner

    @property
    def busy(self) -> bool:
        """Whether some command's session is served here, or something is about to be."""
        return bool(self._rollout.underway) or any(app.ephemeral for app in self.live.all())

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
        """Make the manifest the app's next revision; the old one serves until it is proved.

        Requests that are inside the old one then go on for `drain_s`, by default for as long as
        their function's `timeout` lets them.
        """
        trial.check(name, manifest, tag, strategy)
        async with self._turn(owner := f"deploy:{name}"):
            sealed, fingerprint = self._secrets.seal(dataclasses.replace(manifest, app_name=name))
            current = self.live.get(owner)
            forced = any(
                step.args.get("force_build") for f in sealed.functions for step in f.image.steps
            )
            if current and current.revision.fingerprint == fingerprint and not forced:
                return Deployed(app=current, skipped=True)
            trial.check_node(sealed, self._node, self._secrets)
            revision = self._store.add_revision(name, sealed, fingerprint, tag)
            try:
                app = await self._rollout.bring(
                    owner, revision, current, strategy=strategy, say=say, drain_s=drain_s
                )
            except BaseException:
                self._store.remove_revision(revision)
                raise
            return Deployed(app=app)

    async def rollback(
        self, name: str, version: int | None, *, strategy: str, say: Say
    ) -> Deployed:
        """Serve an earlier revision again, as the app's next version."""
        async with self._turn(owner := f"deploy:{name}"):
            current = self.live.get(owner)
            if current is None:
                raise BadRequest(f"the app `{name}` is not deployed")
            wanted = current.revision.version - 1 if version is None else version
            if wanted < 1:
                raise NotFound(
                    f"the app `{name}` has no version before v{current.revision.version}"
                )
            old = self._store.revision(name, wanted)
            trial.check_node(old.manifest, self._node, self._secrets)
            # The fingerprint is the old one's: its inline secrets are stored under it.
            revision = self._store.add_revision(name, old.manifest, old.fingerprint, old.tag)
            try:
                app = await self._rollout.bring(
                    owner, revision, current, strategy=strategy, say=say
                )
            except BaseException:
                self._store.remove_revision(revision)
                raise
        return Deployed(app=app)

    async def serve(self, session: str, manifest: Manifest, say: Say) -> LiveApp:
        """Begin a session; its containers start while the caller prints the URLs."""
        trial.check(manifest.app_name, manifest, "", "rolling")
        app = await self._serve(f"serve:{session}", manifest, None, say)
        self._ingress.hear(self._show)
        return app

    async def reload(self, session: str, manifest: Manifest) -> LiveApp:
        """Replace what a session serves; a failure leaves the old version."""
        owner = f"serve:{session}"
        ticket = self._tickets[owner] = object()
        if (before := self._reloads.get(owner)) is not None:
            before.cancel()  # what was saved last counts
        async with self._turn(owner):
            current = self.live.get(owner)
            if current is None:
                self._tickets.pop(owner, None)
                raise NotFound("this session has ended")
            if self._tickets.get(owner) is not ticket:
                raise BadRequest("a later version has taken this one's place")
            trial.check(manifest.app_name, manifest, "", "rolling")

            def say(text: str) -> None:
                tell(current, {"event": "progress", "text": text})

            task = asyncio.create_task(self._serve(owner, manifest, current, say))
            self._reloads[owner] = task
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled() and self.live.get(owner) is not None:
                    raise BadRequest("a later version has taken this one's place") from None
                if task.cancelled():
                    raise NotFound("this session has ended") from None
                raise
            finally:
                del self._reloads[owner]

    async def stop(self, owner: str) -> int:
        """The app's URLs are unknown from now on; returns how many containers end."""
        if (reload := self._reloads.get(owner)) is not None:
            reload.cancel()  # else a build would bring back what ends here
            await asyncio.wait([reload])
        app = self.live.remove(owner)
        if app is None:
            return 0
        for endpoint in app.endpoints:
            await self._ingress.unroute(endpoint)
        if not app.ephemeral:
            self._store.stop_app(app.name)
            await self._rollout.versions.stopped(app.name)
        pools = [pool for pool in self._pools if pool.owner == owner]
        for pool in pools:
            pool.refuse(NotFound("app for invoked web endpoint is stopped"))
        count = sum(len(pool.members) for pool in pools)
        self._rollout.retire(pools, drain_s=0.0)
        self._turns.pop(owner, None)
        self._warned.pop(owner, None)
        self._tickets.pop(owner, None)
        if not any(app.ephemeral for app in self.live.all()):
            self._ingress.hear(None)
        return count

    async def prune(self) -> Collection[Environment]:
        """Remove the environments that nothing which serves, or can be rolled back to, needs."""
        manifests = [app.revision.manifest for app in self.live.all()] + self._rollout.underway
        for row in self._store.apps():
            if row.stopped_at is not None:
                continue
            manifests += [revision.manifest for revision in self._store.revisions(row.name)]
        images = {spec.image.key: spec.image for m in manifests for spec in m.functions}
        return await self._node.prune(list(images.values()))

    async def restore(self, running: Collection[str]) -> None:
        """Serve again what was deployed when the server ended.

        `running` are the revisions that still have containers: their source trees stay as they are.
        """
        self._store.forget_unserved()
        for tree in self._rollout.trees.iterdir() if self._rollout.trees.exists() else ():
            if tree.name not in running:
                shutil.rmtree(tree, ignore_errors=True)  # laid out anew from the blobs
        for row in self._store.apps():
            if row.stopped_at is not None or not row.version:
                continue
            try:
                revision = self._store.revision(row.name, row.version)
                owner = f"deploy:{row.name}"
                await self._rollout.bring(owner, revision, None, strategy="restore")
                await self._rollout.versions.restore(revision, owner)
            except Failure as failure:
                log.error("cannot restore `%s`: %s", row.name, failure.message)  # noqa: TRY400

    async def _serve(
        self, owner: str, manifest: Manifest, current: LiveApp | None, say: Say
    ) -> LiveApp:
        sealed, fingerprint = self._secrets.seal(manifest)
        trial.check_node(sealed, self._node, self._secrets, lacking=partial(self._warn, owner, say))
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
        """Tell a session's command of a request to it; a terminal too slow for all gets some."""
        app = self.live.owner_of(request.endpoint)
        if app is None or app.events is None or app.events.qsize() > BACKLOG:
            return
        tag = app.endpoints[request.endpoint].tag
        tell(app, {"event": "request", "tag": tag, "request": codec.encode(request)})

    def _warn(self, owner: str, say: Say, text: str) -> None:
        """Say it once in a session, however often it is reloaded."""
        if text not in (said := self._warned.setdefault(owner, set())):
            said.add(text)
            say(text)

    def _turn(self, owner: str) -> asyncio.Lock:
        return self._turns.setdefault(owner, asyncio.Lock())
