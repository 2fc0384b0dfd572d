"""A revision in: proved, traffic moved, the old one drained.

A `serve` session is the same deploy under a `-dev` name, kept in memory alone.
"""

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from homeport.contract.errors import BadRequest, Failure, ImageError, NotFound, ScriptError
from homeport.contract.image import Environment
from homeport.contract.manifest import Manifest
from homeport.contract.roles import Ingress, Node
from homeport.control import live, scheduler, trial
from homeport.control.blobs import Blobs
from homeport.control.live import Live, LiveApp, LiveEndpoint
from homeport.control.pools import Pool, Pools
from homeport.control.reconciler import Reconciler
from homeport.control.secretbox import SecretBox
from homeport.control.store import Revision, Store
from homeport.control.versions import Versions
from homeport.settings import Settings

SERVE_DRAIN_S = 1.0  # an open stream must not hold up a reload
PORT_DRAIN_S = 30.0  # requests wait for the port while those before them finish

log = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How a deploy ended."""

    app: LiveApp
    skipped: bool = False


class Deployer:
    """Moves endpoints from revision to revision."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        blobs: Blobs,
        pools: Pools,
        reconciler: Reconciler,
        ingress: Ingress,
        node: Node,
        secret_box: SecretBox,
    ) -> None:
        self.live = Live()
        self._settings = settings
        self._store = store
        self._blobs = blobs
        self._pools = pools
        self._reconciler = reconciler
        self._ingress = ingress
        self._node = node
        self._secrets = secret_box
        self._trees = settings.home / "revisions"
        self._versions = Versions(
            settings, store, pools, ingress, reconciler, self._trees, self._lay_out
        )
        self._turns: dict[str, asyncio.Lock] = {}  # one deploy of an app at a time
        self._tickets: dict[str, object] = {}  # the last one that asked to reload a session
        self._reloads: dict[str, asyncio.Task[LiveApp]] = {}  # by the session's owner
        self._underway: list[Manifest] = []  # their environments are not anybody's yet
        self._background: set[asyncio.Task[None]] = set()
        self._warned: dict[str, set[str]] = {}  # by the session's owner
        self._fallbacks: list[str] = []  # revisions that a swap may bring back
        pools.removed = lambda pool: self._tidy(pool.key.revision)

    @property
    def busy(self) -> bool:
        """Whether some command's session is served here, or something is about to be."""
        return bool(self._underway) or any(app.ephemeral for app in self.live.all())

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
            self._check(sealed)
            revision = self._store.add_revision(name, sealed, fingerprint, tag)
            try:
                app = await self._bring(
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
            self._check(old.manifest)
            # The fingerprint is the old one's: its inline secrets are stored under it.
            revision = self._store.add_revision(name, old.manifest, old.fingerprint, old.tag)
            try:
                app = await self._bring(owner, revision, current, strategy=strategy, say=say)
            except BaseException:
                self._store.remove_revision(revision)
                raise
        return Deployed(app=app)

    async def serve(self, session: str, manifest: Manifest, say: Say) -> LiveApp:
        """Begin a session; its containers start while the caller prints the URLs."""
        trial.check(manifest.app_name, manifest, "", "rolling")
        return await self._serve(f"serve:{session}", manifest, None, say)

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
                _tell(current, {"event": "progress", "text": text})

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
            await self._versions.stopped(app.name)
        pools = [pool for pool in self._pools if pool.owner == owner]
        for pool in pools:
            pool.refuse(NotFound("app for invoked web endpoint is stopped"))
        count = sum(len(pool.members) for pool in pools)
        self._retire(pools, drain_s=0.0)
        self._turns.pop(owner, None)
        self._warned.pop(owner, None)
        self._tickets.pop(owner, None)
        return count

    async def prune(self) -> Collection[Environment]:
        """Remove the environments that nothing which serves, or can be rolled back to, needs."""
        manifests = [app.revision.manifest for app in self.live.all()] + self._underway
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
        for tree in self._trees.iterdir() if self._trees.exists() else ():
            if tree.name not in running:
                shutil.rmtree(tree, ignore_errors=True)  # laid out anew from the blobs
        for row in self._store.apps():
            if row.stopped_at is not None or not row.version:
                continue
            try:
                revision = self._store.revision(row.name, row.version)
                owner = f"deploy:{row.name}"
                await self._bring(owner, revision, None, strategy="restore")
                await self._versions.restore(revision, owner)
            except Failure as failure:
                log.error("cannot restore `%s`: %s", row.name, failure.message)  # noqa: TRY400

    async def close(self) -> None:
        """Stop what goes on in the background."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _serve(
        self, owner: str, manifest: Manifest, current: LiveApp | None, say: Say
    ) -> LiveApp:
        sealed, fingerprint = self._secrets.seal(manifest)
        self._check(sealed, lacking=partial(self._warn, owner, say))
        revision = Revision(
            id=f"rv-{secrets.token_hex(6)}",
            app=manifest.app_name,
            version=0,
            manifest=sealed,
            fingerprint=fingerprint,
            created_at=time.time(),
        )
        return await self._bring(owner, revision, current, strategy="rolling", say=say)

    def _check(self, manifest: Manifest, *, lacking: Say | None = None) -> None:
        """Raise for what this machine cannot do, before anything is touched.

        What it has too little of is told to `lacking`, if there is one.
        """
        for spec in manifest.functions:
            self._secrets.check(spec)
            why = scheduler.impossible(spec, self._node.capacity())
            if why and lacking is not None:
                lacking(f"`{spec.name}` {why}: it runs with what there is")
            elif why:
                raise ScriptError(
                    f"`{spec.name}` {why}",
                    where=spec.where,
                    hint="`homeport serve` runs it with what there is",
                )
        for file in manifest.files:
            if file.path.startswith("/"):
                raise ImageError(
                    f"`{file.path}` lies outside the app's directory, which needs a container engine",
                    where=_adds(file.path, manifest),
                    hint="use a path under /root, and open it relative to the working directory",
                )

    def _warn(self, owner: str, say: Say, text: str) -> None:
        """Say it once in a session, however often it is reloaded."""
        if text not in (said := self._warned.setdefault(owner, set())):
            said.add(text)
            say(text)

    async def _bring(
        self,
        owner: str,
        revision: Revision,
        current: LiveApp | None,
        *,
        strategy: str,
        say: Say = lambda _text: None,
        drain_s: float | None = None,
    ) -> LiveApp:
        """Bring a revision up, safe from a `prune` meanwhile."""
        self._underway.append(revision.manifest)
        try:
            return await self._bring_up(owner, revision, current, strategy, say, drain_s)
        finally:
            self._underway.remove(revision.manifest)

    async def _bring_up(
        self,
        owner: str,
        revision: Revision,
        current: LiveApp | None,
        strategy: str,
        say: Say,
        drain_s: float | None,
    ) -> LiveApp:
        """The sentence: plan its endpoints, lay out its files, prove it, move, retire the old."""
        serving = owner.startswith("serve:")
        suffix = self._settings.dev_suffix if serving else ""
        planned = live.plan(revision, self._settings, dev_suffix=suffix)
        self.live.check(owner, planned, list(revision.manifest.functions))
        tree = await self._lay_out(revision, say)
        planned = await self._with_ports(planned, current)
        app = self._app(owner, revision, planned, current)
        pools = self._open_pools(app, tree)
        drain_s = _drain_s(app) if drain_s is None else drain_s
        replaced = self._pools_of(current)
        # A port belongs to one container at a time: its old holder has to go first.
        goes_first = any(spec.port for spec in revision.manifest.functions)
        # So do memory and devices that it holds, where there is no room for both.
        asks = any(spec.memory_mib or spec.gpu for spec in revision.manifest.functions)
        goes_first = goes_first or (asks and not self._reconciler.fits(pools))
        first_serve = serving and current is None
        try:
            if strategy == "recreate" or (goes_first and current is not None):
                await self._swap(app, pools, replaced, current, say)
            elif strategy == "restore" or first_serve:
                await self._move(app, current)
                self._start_behind(app, pools if first_serve else [])
            else:
                await trial.prove(pools, self._reconciler.wake, say)
                await _unbroken(self._move(app, current))
                self._replace(replaced, drain_s=drain_s)
        except BaseException:
            self._retire(pools, drain_s=0.0)
            if self.live.get(owner) is not current:
                self.live.remove(owner)
            raise
        if not serving and strategy != "restore":
            await self._versions.moved(revision)
        return app

    async def _lay_out(self, revision: Revision, say: Say = lambda _text: None) -> Path:
        """The revision's source tree, and every environment that it needs."""
        tree = self._trees / revision.id
        await self._blobs.lay_out(revision.manifest.files, tree)
        try:
            for spec in revision.manifest.functions:
                environ = self._secrets.build_environ(spec)
                await self._node.prepare(spec.image, str(tree), environ, say)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, tree, ignore_errors=True)
            raise
        return tree

    def _app(
        self,
        owner: str,
        revision: Revision,
        planned: dict[str, LiveEndpoint],
        current: LiveApp | None,
    ) -> LiveApp:
        row = None if owner.startswith("serve:") else self._store.app(revision.app)
        return LiveApp(
            owner=owner,
            name=revision.app,
            revision=revision,
            app_id=row.app_id if row else f"ap-{secrets.token_hex(11)}",
            created_at=current.created_at if current else time.time(),
            endpoints=planned,
            events=current.events if current else asyncio.Queue(),
        )

    async def _with_ports(
        self, planned: dict[str, LiveEndpoint], current: LiveApp | None
    ) -> dict[str, LiveEndpoint]:
        known = self._store.local_ports()
        for endpoint, old in current.endpoints.items() if current else ():
            if old.endpoint.local_port:
                known[endpoint] = old.endpoint.local_port
        return {
            endpoint: live.with_port(
                planned_endpoint,
                known.get(endpoint) or await self._ingress.free_port(),
                self._settings,
            )
            for endpoint, planned_endpoint in planned.items()
        }

    def _open_pools(self, app: LiveApp, tree: Path) -> list[Pool]:
        suffix = self._settings.dev_suffix if app.ephemeral else ""
        opened = live.pools(
            app.revision, self._settings, owner=app.owner, tree=tree, dev_suffix=suffix
        )
        for pool in opened:
            self._pools.add(pool)
        return opened

    async def _swap(
        self,
        app: LiveApp,
        pools: list[Pool],
        replaced: list[Pool],
        current: LiveApp | None,
        say: Say,
    ) -> None:
        """Park requests, stop the old containers, start the new ones; back if they cannot."""
        if current is not None:
            self._fallbacks.append(current.revision.id)
        try:
            await self._swapped(app, pools, replaced, current, say)
        finally:
            if current is not None:
                self._fallbacks.remove(current.revision.id)
                self._tidy(current.revision.id)

    async def _swapped(
        self,
        app: LiveApp,
        pools: list[Pool],
        replaced: list[Pool],
        current: LiveApp | None,
        say: Say,
    ) -> None:
        await self._move(app, current, save=False)
        self._replace(replaced, drain_s=SERVE_DRAIN_S if app.ephemeral else PORT_DRAIN_S)
        try:
            await trial.prove(pools, self._reconciler.wake, say)
        except BaseException:
            if current is not None:
                self._retire(pools, drain_s=0.0)
                self._bring_back(current, replaced)
                await self._move(current, app)
            raise
        if not app.ephemeral:
            self._save(app)

    async def _move(self, app: LiveApp, current: LiveApp | None, *, save: bool = True) -> None:
        """From now on the endpoints lead to the app's revision."""
        for endpoint, planned in app.endpoints.items():
            thief_of = self.live.owner_of(endpoint)
            if thief_of is not None and thief_of.owner != app.owner:
                planned.stolen = True
                del thief_of.endpoints[endpoint]
                _tell(thief_of, {"event": "stolen", "tag": planned.tag, "url": planned.url})
            await self._ingress.route(planned.endpoint)
        if save and not app.ephemeral:
            self._save(app)
        self.live.add(app)
        for endpoint in current.endpoints if current else ():
            if endpoint not in app.endpoints:
                await self._ingress.unroute(endpoint)

    def _save(self, app: LiveApp) -> None:
        ports = {e: p.endpoint.local_port or 0 for e, p in app.endpoints.items()}
        self._store.serve_revision(app.revision, ports)

    def _start_behind(self, app: LiveApp, pools: list[Pool]) -> None:
        async def warm() -> None:
            try:
                await trial.prove(
                    pools,
                    self._reconciler.wake,
                    lambda text: _tell(app, {"event": "progress", "text": text}),
                )
            except Failure as failure:
                _tell(app, {"event": "failed", "error": failure.to_dict()})

        if pools:
            task = asyncio.create_task(warm())
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    def _pools_of(self, app: LiveApp | None) -> list[Pool]:
        return self._pools.of_revision(app.name, app.revision.id) if app else []

    def _retire(self, pools: list[Pool], *, drain_s: float) -> None:
        for pool in pools:
            pool.retired, pool.floor, pool.drain_s = True, 0, drain_s
            pool.release()
        self._reconciler.wake()

    def _replace(self, pools: list[Pool], *, drain_s: float) -> None:
        """A newer version serves; deployed ones keep a URL, unless they would need its port."""
        gone = [pool for pool in pools if pool.ephemeral or pool.function.port is not None]
        self._retire(gone, drain_s=drain_s)
        for pool in pools:
            if pool not in gone:
                pool.demote(drain_s)
        self._reconciler.wake()

    def _tidy(self, revision: str) -> None:
        """Remove a source tree that no container will ever start from, once its last one has gone."""
        needed = {app.revision.id for app in self.live.all()} | {*self._fallbacks}
        if revision in needed or any(pool.key.revision == revision for pool in self._pools):
            return
        tree = self._trees / revision
        task = asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, tree, ignore_errors=True))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _bring_back(self, app: LiveApp, pools: list[Pool]) -> None:
        kept = {pool.key for pool in pools if pool.demoted}
        for pool in pools:
            if pool.demoted:
                pool.promote()
        tree = self._trees / app.revision.id
        suffix = self._settings.dev_suffix if app.ephemeral else ""
        for pool in live.pools(
            app.revision, self._settings, owner=app.owner, tree=tree, dev_suffix=suffix
        ):
            if pool.key not in kept:
                self._pools.add(pool)

    def _turn(self, owner: str) -> asyncio.Lock:
        return self._turns.setdefault(owner, asyncio.Lock())


async def _unbroken(work: Coroutine[Any, Any, None]) -> None:
    """To its end, even when the caller is cancelled: half a move leads nowhere."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def _adds(path: str, manifest: Manifest) -> str:
    """The place of the step that adds a file."""
    steps = (step for spec in manifest.functions for step in spec.image.steps)
    found = (s for s in steps if path.startswith(s.args.get("remote_path", "\0").rstrip("/")))
    return next((step.where for step in found), "")


def _drain_s(app: LiveApp) -> float:
    if app.ephemeral:
        return SERVE_DRAIN_S
    # A request in flight may take as long as its function's timeout.
    return max(spec.timeout_s for spec in app.revision.manifest.functions)


def _tell(app: LiveApp, event: dict[str, Any]) -> None:
    if app.events is not None and app.ephemeral:
        app.events.put_nowait(event)
