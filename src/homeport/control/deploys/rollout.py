"""Brings a revision up: writes its files, tries its containers, saves it, moves the endpoints, drains the old.

Called by `deployer`, for deployed apps and for `serve` sessions. A rollout happens whole or not at all: each
step first pushes its inverse, so after a failure or a cancellation the old revision serves on. The old
containers are drained only after the last step that can fail.
"""

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.errors import Failure, StorageError
from homeport.control.deploys import plans, trial
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import LiveEndpoint
from homeport.control.deploys.trees import Trees
from homeport.control.deploys.trial import Say
from homeport.control.deploys.versions import Versions
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.state.rows import Revision
from homeport.supervised import Tasks
from homeport.undo import Undo, unbroken

SERVE_DRAIN_S = 1.0  # short, because an open stream must not delay a reload
PORT_DRAIN_S = 30.0  # new requests wait for the port while the running ones finish

log = logging.getLogger(__name__)


class Rollout:
    """Moves endpoints from revision to revision.

    One class, because the steps of a rollout and their inverses read as one story.
    """

    def __init__(self, parts: Parts) -> None:
        self.trees = Trees(parts)
        self.versions = Versions(parts, lay_out=self.trees.lay_out_again)
        self._live = parts.live
        self._plans = parts.plans
        self._domains = parts.domains
        self._endpoints = parts.endpoints
        self._store = parts.store
        self._pools = parts.pools
        self._reconciler = parts.reconciler
        self._ingress = parts.ingress
        self._tasks = Tasks()
        self._unrouted: dict[str, int] = {}  # endpoint -> the port taken for it, until it is routed
        self._spare_ports: list[int] = []  # ports of endpoints that were never routed

    async def bring(
        self,
        owner: Owner,
        revision: Revision,
        current: LiveApp | None,
        *,
        strategy: str,
        say: Say = lambda _text: None,
        drain_s: float | None = None,
    ) -> LiveApp:
        """Bring a revision up instead of `current`; after a failure everything is as before."""
        with self.trees.keeping(current.revision if current else None):
            async with Undo(f"{owner}: bringing {revision.id} up") as undo:
                with self.trees.keeping(revision):
                    return await self._bring_up(
                        undo, owner, revision, current, strategy, say, drain_s
                    )

    async def close(self) -> None:
        """Cancel the background tasks."""
        await self._tasks.close()
        await self.trees.close()
        await self._endpoints.close()

    def retire(self, pools: list[Pool], *, drain_s: float) -> None:
        """Retire pools that no endpoint uses; running requests may continue for `drain_s`."""
        for pool in pools:
            pool.retire(drain_s)
            self._reconciler.wake(pool)

    async def _bring_up(
        self,
        undo: Undo,
        owner: Owner,
        revision: Revision,
        current: LiveApp | None,
        strategy: str,
        say: Say,
        drain_s: float | None,
    ) -> LiveApp:
        """Plan its endpoints, write its files, try its containers, save, move the endpoints, retire the old."""
        serving = owner.is_session
        planned = self._plans.of(revision, owner.session_id).endpoints
        if strategy != "restore":
            self.check_domains(owner, revision, planned)
        self.claim(owner, revision, planned)
        tree = await self.trees.lay_out(revision, say, on_disk=not serving)
        endpoints = await self.with_ports(undo, planned, current)
        app = await self.live_app(owner, revision, endpoints, current)
        # From here on containers may start, so what can refuse the revision without them comes before.
        pools = self.open_pools(undo, owner, revision, tree)
        replaced = self.pools_of(current)
        first_serve = serving and current is None
        if strategy == "restore" or first_serve:
            await self.move(undo, app, current, save=False)
            if first_serve:
                # Not before `move`: for a session whose URLs cannot be routed, nothing needs to start.
                self._start_behind(app, pools)
            else:
                await self._save_ports(app)
        elif current is not None and (
            strategy == "recreate" or self._goes_first(revision, pools, replaced)
        ):
            await self._swap(undo, app, pools, replaced, current, say)
        else:
            await trial.prove(pools, self._reconciler.wake, say, replaced)
            await self.move(undo, app, current)
            undo.keep()
            self.replace(replaced, drain_s=drain_of(app) if drain_s is None else drain_s)
        undo.keep()
        if not serving and strategy != "restore":
            self._tasks.start(
                f"forgetting old versions of `{app.name}`", self.versions.trim(app.scope, app.name)
            )
        return app

    def check_domains(
        self, owner: Owner, revision: Revision, planned: Mapping[str, LiveEndpoint]
    ) -> None:
        """Raise for a domain that an app may not have; one that it got before stays at a restart."""
        self._plans.check_domains(revision)
        self._live.check_shared(owner, planned, self._domains.all())

    def claim(self, owner: Owner, revision: Revision, planned: Mapping[str, LiveEndpoint]) -> None:
        """Reserve a revision's URLs and ports, until `Trees.keeping` it ends; raise if others have one of them."""
        attached, own_ports = self._domains.get, self._pools.own_ports
        self._live.claim(revision, owner, planned, attached=attached, own_ports=own_ports)

    def _goes_first(self, revision: Revision, pools: list[Pool], replaced: list[Pool]) -> bool:
        """Return whether the old containers must end before new ones can start."""
        # A port belongs to one container at a time.
        if any(pool.ports for pool in pools):
            return True
        # Memory and devices may not be enough for both.
        asks = any(spec.memory_mib or spec.gpu for spec in revision.manifest.functions)
        if asks and not self._reconciler.fits(pools):
            return True
        # Places too, if the old ones have some.
        return any(pool.members for pool in replaced) and not self._reconciler.has_places(
            pools, replaced
        )

    async def live_app(
        self,
        owner: Owner,
        revision: Revision,
        endpoints: dict[str, LiveEndpoint],
        current: LiveApp | None,
    ) -> LiveApp:
        """Return the app as it is once it serves this revision."""
        row = None if owner.is_session else await self._store.of(owner.scope).app(revision.app)
        return LiveApp(
            owner=owner,
            name=revision.app,
            revision=revision,
            app_id=row.app_id if row else f"ap-{secrets.token_hex(11)}",
            created_at=current.created_at if current else time.time(),
            endpoints=endpoints,
            events=current.events if current else asyncio.Queue(),
        )

    async def with_ports(
        self, undo: Undo, planned: Mapping[str, LiveEndpoint], current: LiveApp | None
    ) -> dict[str, LiveEndpoint]:
        """Return the planned endpoints with their local ports: those that they had, or new ones."""
        ports = await self._store.local_ports()
        for endpoint, old in current.endpoints.items() if current else ():
            if old.endpoint.local_port:
                ports[endpoint] = old.endpoint.local_port
        with_ports = {}
        for endpoint, live_endpoint in planned.items():
            if live_endpoint.endpoint.is_called:
                with_ports[endpoint] = live_endpoint
                continue
            port = ports.get(endpoint) or await self._free_port(undo, endpoint)
            with_ports[endpoint] = self._plans.with_port(live_endpoint, port)
        return with_ports

    async def _free_port(self, undo: Undo, endpoint: str) -> int:
        port = self._spare_ports.pop() if self._spare_ports else await self._ingress.free_port()
        self._unrouted[endpoint] = port
        undo.push(self._spare, endpoint)
        return port

    def _spare(self, endpoint: str) -> None:
        """Keep an unused port for the next endpoint; the ingress takes back routed ports itself."""
        if (port := self._unrouted.pop(endpoint, None)) is not None:
            self._spare_ports.append(port)

    def open_pools(self, undo: Undo, owner: Owner, revision: Revision, tree: Path) -> list[Pool]:
        """Add a pool for each function of a revision."""
        plan = self._plans.of(revision, owner.session_id)
        opened = plans.pools(revision, plan, owner=owner, tree=tree)
        undo.push(self.retire, opened, drain_s=0.0)
        for pool in opened:
            self._pools.add(pool)
        return opened

    async def _swap(
        self,
        undo: Undo,
        app: LiveApp,
        pools: list[Pool],
        replaced: list[Pool],
        current: LiveApp,
        say: Say,
    ) -> None:
        """Park requests, stop the old containers, start the new ones; restore the old ones if that fails."""
        await self.move(undo, app, current, save=False)
        # Undone before the move is undone, so that an endpoint finds its old pool.
        undo.push(self._bring_back, replaced)
        self.replace(replaced, drain_s=SERVE_DRAIN_S if app.ephemeral else PORT_DRAIN_S)
        await trial.prove(pools, self._reconciler.wake, say, replaced)
        if not app.ephemeral:
            await self._save(undo, app)

    async def move(
        self, undo: Undo, app: LiveApp, current: LiveApp | None, *, save: bool = True
    ) -> None:
        """Route the endpoints to the app's revision."""
        if save and not app.ephemeral:
            await self._save(undo, app)
        # `unbroken`: a cancellation must not interrupt the ingress in the middle of a step.
        await unbroken(self._route(undo, app, current))

    async def _route(self, undo: Undo, app: LiveApp, current: LiveApp | None) -> None:
        lost: list[tuple[LiveApp, LiveEndpoint]] = []
        for endpoint, live in [*app.endpoints.items()]:
            holder = self._live.owner_of(endpoint)
            if holder is not None and holder.owner != app.owner:
                app.endpoints[endpoint] = dataclasses.replace(live, stolen=True)
                undo.push(holder.endpoints.__setitem__, endpoint, holder.endpoints[endpoint])
                del holder.endpoints[endpoint]
                lost.append((holder, live))
            self._unrouted.pop(endpoint, None)
            await self._endpoints.route(undo, app.owner, live.endpoint)
        undo.push(self._live.put, app.owner, current)
        self._live.add(app)
        for endpoint in current.endpoints if current else ():
            if endpoint not in app.endpoints:
                await self._endpoints.unroute(undo, app.owner, endpoint)
        if not app.ephemeral:
            await self.versions.route(undo, app.revision)
        for holder, live in lost:
            tell(holder, events.Stolen(tag=live.tag, url=live.url))

    async def _save(self, undo: Undo, app: LiveApp) -> None:
        store = self._store.of(app.scope)
        undo.push(store.put_back, app.name, await store.served(app.name))
        await store.serve_revision(app.revision, _ports(app))

    async def _save_ports(self, app: LiveApp) -> None:
        """Save the endpoints' local ports, which may differ after a restart; a failure is only logged."""
        saved_ports = await self._store.local_ports()
        if any(saved_ports.get(endpoint) != port for endpoint, port in _ports(app).items()):
            try:
                await self._store.of(app.scope).serve_revision(app.revision, _ports(app))
            except StorageError as error:
                log.warning("the local ports of `%s` cannot be saved: %s", app.name, error)

    def _start_behind(self, app: LiveApp, pools: list[Pool]) -> None:
        async def warm() -> None:
            try:
                await trial.prove(
                    pools,
                    self._reconciler.wake,
                    lambda text: tell(app, events.progress(text)),
                )
            except Failure as failure:
                tell(app, events.Failed(error=Fault.of(failure)))

        self._tasks.start(f"starting the first containers of `{app.name}`", warm())

    def pools_of(self, app: LiveApp | None) -> list[Pool]:
        """Return the pools of an app's revision."""
        return self._pools.of_revision(app.name, app.revision.id) if app else []

    def replace(self, pools: list[Pool], *, drain_s: float) -> None:
        """Demote the pools of a deployed app, which keep their version's URL, or retire them."""
        ending = [p for p in pools if p.ephemeral or p.ports or p.variant]
        self.retire(ending, drain_s=drain_s)
        for pool in pools:
            if pool not in ending:
                pool.demote(drain_s)
                self._reconciler.wake(pool)

    def _bring_back(self, pools: list[Pool]) -> None:
        """Undo `replace`: the pools serve again, also those that were removed meanwhile."""
        for pool in pools:
            pool.promote()
            self._pools.add(pool)
            self._reconciler.wake(pool)


def _ports(app: LiveApp) -> dict[str, int]:
    return {
        name: live_endpoint.endpoint.local_port or 0
        for name, live_endpoint in app.endpoints.items()
        if not live_endpoint.endpoint.is_called
    }


def drain_of(app: LiveApp) -> float:
    """Return how long running requests of an app may continue when its revision serves no more."""
    if app.ephemeral:
        return SERVE_DRAIN_S
    return max(spec.drain_s for spec in app.revision.manifest.functions)


def tell(app: LiveApp, event: events.SessionEvent) -> None:
    """Send an event to a session's command."""
    if app.events is not None and app.ephemeral:
        app.events.put_nowait(event)
