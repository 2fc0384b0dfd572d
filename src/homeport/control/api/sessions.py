"""The routes of `homeport serve` and `homeport run`: an app is served as long as its command's connection is open."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial

from homeport.contract import validate
from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.api.sessions import Endpoints, Serve
from homeport.contract.manifest import Manifest
from homeport.control.api.routing import route
from homeport.control.api.streams import copy_lines
from homeport.control.api.view import View
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.deployer import Deployer
from homeport.control.fleet.owner import Owner
from homeport.state.logs import Logs
from homeport.supervised import Tasks, retried


class Sessions:
    """Serves apps, and streams their events."""

    def __init__(self, view: View, deployer: Deployer, logs: Logs, tasks: Tasks) -> None:
        self._view = view
        self._deployer = deployer
        self._logs = logs
        self._tasks = tasks

    @route("POST", "/v1/serve")
    async def serve(self, body: Serve) -> AsyncIterator[events.SessionEvent]:
        """Serve an app as long as the connection is open.

        The first line is `Session`. `Progress` follows while the images are built, then `Serving`, and
        then every event of the session.
        """
        validate.check(body.manifest)
        return self._session(body.manifest)

    @route("PUT", "/v1/serve/{id}")
    async def reload(self, id: str, body: Serve) -> Endpoints:  # noqa: A002 - the path's
        """Replace what a session serves; the answer comes when the new version answers.

        If it fails, the old version stays. The session's stream has the progress.
        """
        validate.check(body.manifest)
        app = await self._deployer.reload(id, body.manifest)
        return Endpoints(endpoints=self._view.endpoints(app))

    async def _session(self, manifest: Manifest) -> AsyncIterator[events.SessionEvent]:
        """Yield the events of a session; the session ends with this generator."""
        session = secrets.token_hex(6)
        owner = Owner.session(session)
        queue: asyncio.Queue[events.SessionEvent] = asyncio.Queue()
        app: LiveApp | None = None

        async def begin() -> None:
            nonlocal app
            begun: events.Serving | events.Error
            try:
                app = await self._deployer.serve(
                    session, manifest, lambda text: queue.put_nowait(events.Progress(text=text))
                )
                begun = events.Serving(endpoints=self._view.endpoints(app))
            except Exception as error:
                begun = events.Error(error=Fault.of(error))
            queue.put_nowait(begun)

        beginning = self._tasks.start(f"beginning of {owner}", begin())
        try:
            yield events.Session(id=session, app=manifest.app_name)
            while not isinstance(event := await queue.get(), (events.Serving, events.Error)):
                yield event
            yield event
            if app is None or app.events is None:
                return
            with self._logs.following(partial(self._view.is_owners, owner)) as lines:
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
            ending = retried(name, partial(self._deployer.stop, owner))
            await asyncio.shield(self._tasks.start(name, ending))
