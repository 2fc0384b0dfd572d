"""Runs a version beside the one that serves an app, and sends it a part of the requests: a canary.

Called by `canaries`. The ingress decides for each request (`Ingress.split`), among the URLs that both versions have. The
version answers them under its own endpoints (`versions`), so its records, methods and timeouts are its own. Calls and
schedules stay with the version that serves. A change here happens whole or not at all, as in `rollout`.
"""

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from homeport.contract.errors import BadRequest, StartError
from homeport.contract.traffic import Split
from homeport.control.deploys import trial
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.rollout import Rollout, drain_of
from homeport.control.deploys.trial import Say
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.state.rows import Revision
from homeport.supervised import Tasks, retried
from homeport.undo import Undo, unbroken

log = logging.getLogger(__name__)


class Beside:
    """Brings a second version up, and later lets it serve the app or stops it."""

    def __init__(self, parts: Parts, rollout: Rollout) -> None:
        self._rollout = rollout
        self._plans = parts.plans
        self._endpoints = parts.endpoints
        self._pools = parts.pools
        self._reconciler = parts.reconciler
        self._ingress = parts.ingress
        self._tasks = Tasks()

    async def close(self) -> None:
        """Stop trying to end splits."""
        await self._tasks.close()

    def shared(self, current: LiveApp, revision: Revision) -> dict[str, str]:
        """Return the endpoints that both versions have: the app's -> the revision's own, by their ids.

        A URL is left out if only one of the versions asks for a token there: a request without a token would get an
        error from one version and an answer from the other.
        """
        plan = self._plans.of(revision)
        own = {live.tag: live.endpoint for live in plan.of_version.values() if live.url}
        shared_ids = {}
        for name, live in current.endpoints.items():
            later = plan.endpoints.get(name)
            if later is None or not later.url or later.tag not in own:
                continue
            if live.endpoint.protected == later.endpoint.protected:
                shared_ids[name] = own[later.tag].id
        return shared_ids

    async def bring(
        self,
        owner: Owner,
        revision: Revision,
        current: LiveApp,
        per_mille: int,
        *,
        save: Callable[[], Awaitable[None]],
        forget: Callable[[], Awaitable[None]],
        say: Say,
    ) -> None:
        """Start a revision's containers, `save`, and send them a part of the requests."""
        keeping = self._rollout.trees.keeping
        with keeping(current.revision):
            async with Undo(f"{owner}: bringing {revision.id} up beside another version") as undo:
                with keeping(revision):
                    planned = self._plans.of(revision).endpoints
                    self._rollout.check_domains(owner, revision, planned)
                    self._rollout.claim(owner, revision, planned)
                    self._check(current, revision)
                    tree = await self._rollout.trees.lay_out(revision, say, on_disk=True)
                    pools = self._rollout.open_pools(undo, owner, revision, tree)
                    self._check_room(revision, pools)
                    replaced = self._rollout.pools_of(current)
                    await trial.prove(pools, self._reconciler.wake, say, replaced)
                    undo.push(forget)
                    await save()
                    await unbroken(self._begin(undo, current, revision, per_mille))
                    undo.keep()
        self._trim(owner)

    async def change(
        self,
        current: LiveApp,
        revision: Revision,
        per_mille: int,
        *,
        before: int,
        save: Callable[[], Awaitable[None]],
        unsave: Callable[[], Awaitable[None]],
    ) -> None:
        """Save, and send another share of the requests to the revision; after a failure it gets the share `before`."""
        async with Undo(f"`{current.name}`: another part of the requests") as undo:
            undo.push(unsave)
            await save()
            await unbroken(self._split(undo, current, revision, per_mille, before=before))

    async def restore(self, current: LiveApp, revision: Revision, per_mille: int) -> None:
        """Split the requests again after a restart; `Versions.restore` has made the revision's pools and endpoints."""
        pools = self._pools.of_revision(revision.app, revision.id)
        if not pools:
            raise StartError(f"v{revision.version} of `{revision.app}` could not be restored")
        for pool in pools:
            pool.promote()
        async with Undo(f"restoring the canary of `{current.name}`") as undo:
            undo.push(self._rollout.replace, pools, drain_s=0.0)
            await unbroken(self._split(undo, current, revision, per_mille))

    async def promote(self, owner: Owner, revision: Revision, current: LiveApp) -> LiveApp:
        """Route all of the app's endpoints to the revision, whose containers run already."""
        rollout = self._rollout
        self._plans.forget(revision.id)  # domains may have been attached meanwhile
        with rollout.trees.keeping(current.revision):
            async with Undo(f"{owner}: promoting {revision.id}") as undo:
                with rollout.trees.keeping(revision):
                    planned = self._plans.of(revision).endpoints
                    rollout.claim(owner, revision, planned)
                    endpoints = await rollout.with_ports(undo, planned, current)
                    app = await rollout.live_app(owner, revision, endpoints, current)
                    await rollout.move(undo, app, current)
                    undo.keep()
            # The part goes to the same containers by now, so nothing is lost if this takes longer.
            await unbroken(self._withdraw(app, rollout.pools_of(current), drain_of(app)))
        self._trim(owner)
        return app

    async def withdraw(self, revision: Revision, current: LiveApp) -> None:
        """Send all requests to the app's own version again; the other one keeps a URL of its own, as each version does."""
        pools = self._pools.of_revision(revision.app, revision.id)
        drain_s = max(spec.drain_s for spec in revision.manifest.functions)
        await unbroken(self._withdraw(current, pools, drain_s))

    def _trim(self, owner: Owner) -> None:
        trimming = self._rollout.versions.trim(owner.scope, owner.name)
        self._tasks.start(f"forgetting old versions of `{owner.name}`", trimming)

    def _check(self, current: LiveApp, revision: Revision) -> None:
        """Raise for a version that could get no request beside the other version."""
        ports = [spec for spec in revision.manifest.functions if spec.ports]
        if ports and not self._pools.own_ports:
            raise BadRequest(
                f"`{ports[0].name}` has a port of this machine, so two versions of it cannot run side by side",
                where=ports[0].where,
                hint="deploy it without `--canary`",
            )
        if not self.shared(current, revision):
            raise BadRequest(
                f"`{revision.app}` has no URL that the new version and v{current.revision.version} both have, so no "
                "request could go to the new version",
                hint="deploy it without `--canary`",
            )

    def _check_room(self, revision: Revision, pools: list[Pool]) -> None:
        asks = any(spec.memory_mib or spec.gpu for spec in revision.manifest.functions)
        if asks and not self._reconciler.fits(pools):
            raise BadRequest(
                f"there is no room for two versions of `{revision.app}` side by side: its functions ask for more memory "
                "or GPUs than are free",
                hint="deploy it without `--canary`: then the old containers end first",
            )

    async def _begin(
        self, undo: Undo, current: LiveApp, revision: Revision, per_mille: int
    ) -> None:
        await self._rollout.versions.route(undo, revision)
        await self._split(undo, current, revision, per_mille)

    async def _split(
        self,
        undo: Undo,
        current: LiveApp,
        revision: Revision,
        per_mille: int,
        *,
        before: int | None = None,
    ) -> None:
        """Send a part of the requests to the revision; `before`: the part that it had."""
        holder = Owner.version(revision.scope, revision.id)
        for name, other in self.shared(current, revision).items():
            if self._endpoints.holder(other) != holder:
                log.warning("`%s` gets no canary: another app has the URL `%s`", name, other)
                continue
            part = Split(endpoint=other, per_mille=per_mille)
            former = None if before is None else dataclasses.replace(part, per_mille=before)
            undo.push(self._ingress.split, name, former)
            await self._ingress.split(name, part)

    async def _withdraw(self, current: LiveApp, pools: list[Pool], drain_s: float) -> None:
        """End the splits, and retire these pools; if the ingress fails, try again until it works."""
        for name in [name for name, live in current.endpoints.items() if live.url]:
            end = partial(self._ingress.split, name, None)
            try:
                await end()
            except Exception as error:
                log.warning("the canary of `%s` still gets requests: %s", name, error)
                again = f"ending the canary of `{name}`"
                self._tasks.start(again, retried(again, end))
        self._rollout.replace(pools, drain_s=drain_s)
