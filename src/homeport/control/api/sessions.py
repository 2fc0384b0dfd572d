"""The routes of `homeport serve`, `run` and `app.run()`: an app is served as long as its command's connection is open."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial

from homeport.contract import validate
from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.api.sessions import Endpoints, Serve
from homeport.contract.manifest import Manifest
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.control.api.streams import copy_lines
from homeport.control.api.view import View
from homeport.control.calls.spawned import Spawned
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.deployer import Deployer
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pools import Pools
from homeport.state.logs import Logs
from homeport.supervised import Tasks, retried

LOOK_S = 0.25  # how often to look whether the calls of a detached app have ended


class Sessions:
    """Serves apps, and streams their events."""

    def __init__(
        self,
        view: View,
        deployer: Deployer,
        logs: Logs,
        tasks: Tasks,
        spawned: Spawned,
        pools: Pools,
    ) -> None:
        self._view = view
        self._spawned, self._pools = spawned, pools
        self._deployer = deployer
        self._logs = logs
        self._tasks = tasks

    @route("POST", "/v1/serve", action="app serve")
    async def serve(self, scope: Scope, body: Serve) -> AsyncIterator[events.SessionEvent]:
        """Serve an app as long as the connection is open; with `detach`, until its spawned calls have ended.

        The first line is `Session`. `Progress` follows while the images are built, then `Serving`, and
        then every event of the session.
        """
        validate.check(body.manifest)
        return self._session(scope, body.manifest, detach=body.detach)

    @route("PUT", "/v1/serve/{id}", action="app reload")
    async def reload(self, scope: Scope, id: str, body: Serve) -> Endpoints:  # noqa: A002 - the path's
        """Replace what a session serves; the answer comes when the new version answers.

        If it fails, the old version stays. The session's stream has the progress.
        """
        validate.check(body.manifest)
        app = await self._deployer.sessions.reload(scope, id, body.manifest)
        return Endpoints(endpoints=self._view.endpoints(app))

    async def _session(
        self, scope: Scope, manifest: Manifest, *, detach: bool
    ) -> AsyncIterator[events.SessionEvent]:
        """Yield the events of a session; the session ends with this generator unless it is detached."""
        session = secrets.token_hex(6)
        owner = Owner.session(scope, session)
        queue: asyncio.Queue[events.SessionEvent] = asyncio.Queue()
        app: LiveApp | None = None

        async def begin() -> None:
            nonlocal app
            first_event: events.Serving | events.Error
            try:
                app = await self._deployer.sessions.serve(
                    scope,
                    session,
                    manifest,
                    lambda text: queue.put_nowait(events.progress(text)),
                )
                first_event = events.Serving(endpoints=self._view.endpoints(app))
            except Exception as error:
                first_event = events.Error(error=Fault.of(error))
            queue.put_nowait(first_event)

        beginning = self._tasks.start(f"beginning of {owner}", begin())
        try:
            yield events.Session(id=session, app=manifest.app_name, key=self._view.key(scope))
            while not isinstance(event := await queue.get(), (events.Serving, events.Error)):
                yield event
            yield event
            if app is None or app.events is None:
                return
            with self._logs.following(scope, partial(self._view.is_owners, owner)) as lines:
                copying = self._tasks.start(f"log lines of {owner}", copy_lines(lines, app.events))
                try:
                    while True:
                        yield await app.events.get()
                finally:
                    copying.cancel()
        finally:
            beginning.cancel()  # no reader of the stream is left
            # Until it succeeds, because nothing else stops the session later.
            name = f"ending {owner}"
            if detach and app is not None:
                app.events = None  # no client reads them any more
                self._tasks.start(name, self._outlive(name, owner, app))
            else:
                ending = retried(name, partial(self._deployer.stop, owner))
                await asyncio.shield(self._tasks.start(name, ending))

    async def _outlive(self, name: str, owner: Owner, app: LiveApp) -> None:
        """Stop a detached session when no call of its functions waits or runs any more."""

        async def wait() -> None:
            while self._deployer.live.get(owner) is not None and await self._has_calls(owner, app):
                await asyncio.sleep(LOOK_S)

        await retried(name, wait)
        await retried(name, partial(self._deployer.stop, owner))

    async def _has_calls(self, owner: Owner, app: LiveApp) -> bool:
        if any(pool.demand for pool in self._pools if pool.owner == owner):
            return True
        return await self._spawned.rows.are_open(list(app.endpoints))
