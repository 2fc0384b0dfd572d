"""An app's session on the server, and its output: for `homeport run` and for `app.run()` in a script."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from homeport.cli import live, output, script, server
from homeport.contract.declaring import Declared
from homeport.contract.errors import Failure, ServerUnreachable
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client
    from homeport.contract.api.events import Event

QUIET_S = 0.2  # the last lines of containers may come later than the answers of their calls
LONGEST_S = 3.0
STEP_S = 0.02


class Show:
    """Shows the events of a session on standard error."""

    def __init__(
        self, *, quiet: bool = False, timestamps: bool = False, build_log: bool = False
    ) -> None:
        self.sources: dict[str, str] = {}  # of the script: hash -> path
        self.shown = output.Shown()
        self.builds = live.Builds(every=build_log)
        self.is_muted = False  # True: containers' lines are not shown
        self._quiet, self._timestamps = quiet, timestamps

    def tell(self, event: "Event") -> None:
        """Show one event."""
        self.shown.add(event)
        if event.event != "progress":
            self.builds.end()
        if event.event == "serving":
            for endpoint in event.endpoints:
                if endpoint.url:
                    self.say(f"  {endpoint.tag}  {endpoint.url}  (or {endpoint.local_url})")
        elif event.event == "log" and not self.is_muted:
            output.show_line(event.line, timestamps=self._timestamps, talk=True)
        elif event.event == "progress" and not self._quiet:
            self.builds.show(event)
        elif event.event == "failed":
            failure = event.error.failure()
            failure.traceback = ""  # the container has printed it
            script.quote(failure, self.sources.values())
            output.show_failure(failure)

    def say(self, text: str) -> None:
        """Print a line, unless the command is to be quiet."""
        self.builds.end()
        if not self._quiet:
            output.say(text)


class Silent(Show):
    """Shows nothing."""

    def tell(self, event: "Event") -> None:
        """Ignore an event."""

    def say(self, text: str) -> None:
        """Print nothing."""


class Session:
    """One session, from the moment when it serves."""

    def __init__(
        self, app: str, session: str, show: Show, *, detached: bool, key: str = ""
    ) -> None:
        self.app, self.id, self.key = app, session, key
        self.urls: dict[str, str] = {}  # of its web functions, by tag
        self.local_urls: dict[str, str] = {}  # the same by ports of their own
        self.showing: asyncio.Task[None] | None = None  # ends with the server
        self._show, self._detached = show, detached
        self._last = 0.0  # when the last event came

    def tell(self, event: "Event") -> None:
        """Show an event."""
        self._last = asyncio.get_running_loop().time()
        if event.event == "serving":
            served = [endpoint for endpoint in event.endpoints if endpoint.url]
            self.urls = {endpoint.tag: endpoint.url for endpoint in served}
            self.local_urls = {endpoint.tag: endpoint.local_url for endpoint in served}
        self._show.tell(event)

    async def follow(self, events: "AsyncIterator[Event]") -> None:
        """Show all events until the stream ends, which is the server's end."""
        async for event in events:
            self.tell(event)
        raise ServerUnreachable("the server has ended, and so has this session")

    async def lasts(self, over: asyncio.Event) -> None:
        """Wait until `over` is set; raise if the server ends first."""
        assert self.showing is not None
        ended = asyncio.ensure_future(over.wait())
        try:
            await asyncio.wait({self.showing, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self.showing.result()
        finally:
            ended.cancel()

    async def settle(self) -> None:
        """Wait until no more lines come from the containers."""
        assert self.showing is not None
        loop = asyncio.get_running_loop()
        ended = self._last = loop.time()
        while not self.showing.done() and loop.time() < min(
            self._last + QUIET_S, ended + LONGEST_S
        ):
            await asyncio.sleep(STEP_S)

    async def close(self, why: str) -> None:
        """Show the last lines, and how it has ended: `interrupted`, `failed`, or well."""
        if not isinstance(self._show, Silent):
            await self.settle()
        if why == "interrupted":
            self._show.say("✓ App aborted.")
        elif not why:
            self._show.say("✓ App completed.")
        if self._detached:
            self._show.say(left_running(self.app))


@asynccontextmanager
async def served(
    client: "Client", declared: Declared, show: Show, *, detach: bool = False
) -> AsyncIterator[Session]:
    """Serve an app's functions as long as the block lasts; with `detach`, as long as their spawned calls last."""
    show.sources = declared.sources
    with live.line("uploading files", plain=isinstance(show, Silent)) as uploading:
        await client.blobs.upload(declared.sources, uploading.sized)
    async with client.sessions.serve(declared.manifest, detach=detach) as events:
        first = await anext(events, None)
        if first is None or first.event != "session":
            raise ServerUnreachable("the server ended before it served anything")
        session = Session(declared.name, first.id, show, detached=detach, key=first.key)
        try:
            async for event in events:
                session.tell(event)
                if event.event == "serving":
                    break
        except Failure:
            show.builds.fail()
            raise
        finally:
            show.builds.end()
        session.showing = asyncio.create_task(session.follow(events))
        try:
            yield session
        finally:
            session.showing.cancel()
            await asyncio.wait({session.showing})
            with contextlib.suppress(asyncio.CancelledError, Exception):
                session.showing.exception()


@asynccontextmanager
async def opened(
    settings: Settings, declared: Declared, *, detach: bool, shows: bool
) -> AsyncIterator[Session]:
    """Do the same for `app.run()`: with a server of its own if none runs, and with output or without."""
    show = Show() if shows else Silent()
    reached = server.background(settings) if detach else server.borrowed(settings)
    try:
        async with reached as client, served(client, declared, show, detach=detach) as session:
            yield session
    finally:
        show.builds.end()


def left_running(app: str) -> str:
    """Return what to say of a detached app."""
    return (
        f"`{app}` continues until its spawned calls have ended. `homeport app logs -f {app}` shows what it prints, "
        f"`homeport app stop {app}` ends it"
    )
