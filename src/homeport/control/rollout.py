"""A revision brought up: laid out, proved, traffic moved to it, the old one drained.

Called by `deployer`, for deployed apps and for `serve` sessions alike.
"""

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from homeport.contract.errors import Failure
from homeport.contract.manifest import Manifest
from homeport.contract.roles import Ingress, Node
from homeport.control import live, trial
from homeport.control.blobs import Blobs
from homeport.control.live import Live, LiveApp, LiveEndpoint
from homeport.control.pools import Pool, Pools
from homeport.control.reconciler import Reconciler
from homeport.control.secretbox import SecretBox
from homeport.control.store import Revision, Store
from homeport.control.trial import Say
from homeport.control.versions import Versions
from homeport.settings import Settings

SERVE_DRAIN_S = 1.0  # an open stream must not hold up a reload
PORT_DRAIN_S = 30.0  # requests wait for the port while those before them finish


class Rollout:
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
        self.trees = settings.home / "revisions"
        self.underway: list[Manifest] = []  # their environments are not anybody's yet
        self._settings = settings
        self._store = store
        self._blobs = blobs
        self._pools = pools
        self._reconciler = reconciler
        self._ingress = ingress
        self._node = node
        self._secrets = secret_box
        self.versions = Versions(
            settings, store, pools, ingress, reconciler, self.trees, self._lay_out
        )
        self._background: set[asyncio.Task[None]] = set()
        self._fallbacks: list[str] = []  # revisions that a swap may bring back
        pools.removed = lambda pool: self._tidy(pool.key.revision)

    async def bring(
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
        self.underway.append(revision.manifest)
        try:
            return await self._bring_up(owner, revision, current, strategy, say, drain_s)
        finally:
            self.underway.remove(revision.manifest)

    async def close(self) -> None:
        """Stop what goes on in the background."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

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
            self.retire(pools, drain_s=0.0)
            if self.live.get(owner) is not current:
                self.live.remove(owner)
            raise
        if not serving and strategy != "restore":
            await self.versions.moved(revision)
        return app

    async def _lay_out(self, revision: Revision, say: Say = lambda _text: None) -> Path:
        """The revision's source tree, and every environment that it needs."""
        tree = self.trees / revision.id
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
        with self._fallback(current):
            await self._move(app, current, save=False)
            self._replace(replaced, drain_s=SERVE_DRAIN_S if app.ephemeral else PORT_DRAIN_S)
            try:
                await trial.prove(pools, self._reconciler.wake, say)
            except BaseException:
                if current is not None:
                    self.retire(pools, drain_s=0.0)
                    self._bring_back(current, replaced)
                    await self._move(current, app)
                raise
            if not app.ephemeral:
                self._save(app)

    @contextlib.contextmanager
    def _fallback(self, current: LiveApp | None) -> Iterator[None]:
        """Keep the source tree of what may have to come back."""
        if current is None:
            yield
            return
        self._fallbacks.append(current.revision.id)
        try:
            yield
        finally:
            self._fallbacks.remove(current.revision.id)
            self._tidy(current.revision.id)

    async def _move(self, app: LiveApp, current: LiveApp | None, *, save: bool = True) -> None:
        """From now on the endpoints lead to the app's revision."""
        for endpoint, planned in app.endpoints.items():
            thief_of = self.live.owner_of(endpoint)
            if thief_of is not None and thief_of.owner != app.owner:
                planned.stolen = True
                del thief_of.endpoints[endpoint]
                tell(thief_of, {"event": "stolen", "tag": planned.tag, "url": planned.url})
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
                    lambda text: tell(app, {"event": "progress", "text": text}),
                )
            except Failure as failure:
                tell(app, {"event": "failed", "error": failure.to_dict()})

        if pools:
            task = asyncio.create_task(warm())
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    def _pools_of(self, app: LiveApp | None) -> list[Pool]:
        return self._pools.of_revision(app.name, app.revision.id) if app else []

    def retire(self, pools: list[Pool], *, drain_s: float) -> None:
        """Nothing leads there any more; what is inside goes on for that long."""
        for pool in pools:
            pool.retired, pool.floor, pool.drain_s = True, 0, drain_s
            pool.release()
        self._reconciler.wake()

    def _replace(self, pools: list[Pool], *, drain_s: float) -> None:
        """A newer version serves; deployed ones keep a URL, unless they would need its port."""
        gone = [pool for pool in pools if pool.ephemeral or pool.function.port is not None]
        self.retire(gone, drain_s=drain_s)
        for pool in pools:
            if pool not in gone:
                pool.demote(drain_s)
        self._reconciler.wake()

    def _tidy(self, revision: str) -> None:
        """Remove a source tree that no container will ever start from, once its last one has gone."""
        needed = {app.revision.id for app in self.live.all()} | {*self._fallbacks}
        if revision in needed or any(pool.key.revision == revision for pool in self._pools):
            return
        tree = self.trees / revision
        task = asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, tree, ignore_errors=True))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _bring_back(self, app: LiveApp, pools: list[Pool]) -> None:
        kept = {pool.key for pool in pools if pool.demoted}
        for pool in pools:
            if pool.demoted:
                pool.promote()
        tree = self.trees / app.revision.id
        suffix = self._settings.dev_suffix if app.ephemeral else ""
        for pool in live.pools(
            app.revision, self._settings, owner=app.owner, tree=tree, dev_suffix=suffix
        ):
            if pool.key not in kept:
                self._pools.add(pool)


async def _unbroken(work: Coroutine[Any, Any, None]) -> None:
    """To its end, even when the caller is cancelled: half a move leads nowhere."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def _drain_s(app: LiveApp) -> float:
    if app.ephemeral:
        return SERVE_DRAIN_S
    # A request in flight may take as long as its function's timeout.
    return max(spec.timeout_s for spec in app.revision.manifest.functions)


def tell(app: LiveApp, event: dict[str, Any]) -> None:
    """Tell a session's command."""
    if app.events is not None and app.ephemeral:
        app.events.put_nowait(event)
