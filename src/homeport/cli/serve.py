"""`homeport serve`: serves a script, and reloads it at each save."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import live, options, output, script, server, signals
from homeport.contract.declaring import Declared
from homeport.contract.errors import Failure, ServerUnreachable
from homeport.sdk import watched
from homeport.sdk.files import patterns
from homeport.settings import Settings

if TYPE_CHECKING:
    import watchfiles

    from homeport.cli.mirroring import Mirror
    from homeport.client import Client
    from homeport.contract.api.events import Event

DEBOUNCE_MS = 200  # an editor saves several files, or one in several steps
STEP_MS = 10
POLL_MS = 500
LEARN_S = 1.0
PATIENCE_S = 1.0  # a reload that takes longer is abandoned for a newer save
PROBES = frozenset({".DS_Store", "4913"})  # files that editors write to test for permission


def serve(
    ref: options.Ref,
    name: options.Name = "",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which it ends.")] = None,
    module: options.Module = False,
    timestamps: options.Timestamps = False,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APP[.FUNCTION]=5%",
            help="Send copies of so many live requests here: GET and HEAD, without credentials.",
        ),
    ] = None,
    build_log: options.BuildLog = False,
    host: options.Host = None,
    http_port: options.HttpPort = None,
    environment: options.Environment = None,
) -> None:
    """Serve a script, live: reload when you save, end with Ctrl-C."""
    settings = options.load(environment=environment, host=host, http_port=http_port)
    builds = live.Builds(every=build_log)
    session = Session(settings, ref, name=name, module=module, timestamps=timestamps, builds=builds)
    if mirror:
        from homeport.cli import mirroring

        session.mirror = mirroring.Mirror(settings, [mirroring.parse(value) for value in mirror])
    asyncio.run(session.run(timeout))


class Session:
    """One `homeport serve`."""

    def __init__(
        self,
        settings: Settings,
        ref: str,
        *,
        name: str,
        module: bool,
        timestamps: bool,
        builds: live.Builds,
    ) -> None:
        self.mirror: Mirror | None = None
        self._settings = settings
        self._declarer = script.Declarer(ref, module=module, name=name)
        self._timestamps = timestamps
        self._stop = asyncio.Event()
        self._serving: Declared | None = None  # None while the server may be changing the version
        self._sources: dict[str, str] = {}  # of the last version that was uploaded: hash -> path
        self._declaring = False
        self._saved = asyncio.Event()
        self._watching: list[str] = []
        self._moved = asyncio.Event()  # set when the folders to watch have changed
        self._said: set[str] = set()  # warnings that were shown already
        self._shown = output.Shown()
        self._builds = builds

    async def run(self, seconds: float | None) -> None:
        """Serve until Ctrl-C, the timeout, or the server's end."""
        loop = asyncio.get_running_loop()
        for number in signals.that_end():
            loop.add_signal_handler(number, self._stop.set)
        if seconds is not None:
            loop.call_later(seconds, self._stop.set)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._work())
            stop = group.create_task(self._stop.wait())
            await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
            stop.cancel()

    async def _work(self) -> None:
        # Load the script and start a server at the same time: both take about as long.
        declaring = asyncio.create_task(self._declare())
        try:
            async with server.borrowed(self._settings) as client:
                declared = await declaring
                self._warn(declared)
                self._sources = declared.sources
                with live.line("uploading files") as uploading:
                    await client.blobs.upload(declared.sources, uploading.sized)
                async with client.sessions.serve(declared.manifest) as events:
                    await self._live(client, declared, events)
        except Failure as failure:
            self._builds.fail()
            self._shown.shorten(failure)
            script.quote(failure, self._sources.values())
            raise
        finally:
            self._builds.end()
            declaring.cancel()
            with contextlib.suppress(asyncio.CancelledError, Failure):
                await declaring
            await self._declarer.close()

    async def _live(
        self, client: "Client", declared: Declared, events: "AsyncIterator[Event]"
    ) -> None:
        first = await anext(events, None)
        if first is None or first.event != "session":
            raise ServerUnreachable("the server ended before it served anything")
        async for event in events:
            self._tell(event)
            if event.event == "serving":
                break
        self._serving = declared
        async with asyncio.TaskGroup() as group:
            # After a delay, because the first container needs the cores now.
            asyncio.get_running_loop().call_later(LEARN_S, self._declarer.learn)
            group.create_task(self._show(events))
            group.create_task(self._watch())
            group.create_task(self._reload(client, first.id))
            if self.mirror is not None:
                group.create_task(self.mirror.run(client))

    async def _show(self, events: "AsyncIterator[Event]") -> None:
        async for event in events:
            self._tell(event)
        if not self._stop.is_set():
            raise ServerUnreachable("the server has ended, and so has this session")

    def _tell(self, event: "Event") -> None:
        self._shown.add(event)
        if event.event != "progress":
            self._builds.end()
        if event.event == "serving":
            output.show_endpoints(event.endpoints)
            if self.mirror is not None:
                self.mirror.serves(event.endpoints)
            output.say("⚡️ Serving... hit Ctrl-C to stop!")
        elif event.event == "log":
            output.show_line(event.line, timestamps=self._timestamps)
        elif event.event == "request":
            if event.untold:
                output.say(
                    f"({output.counted(event.untold, 'request')} more, too fast to be shown)"
                )
            output.show_request(event.tag, event.request)
        elif event.event == "progress":
            self._builds.show(event)
        elif event.event == "stolen":
            output.warn(f"another session has taken {event.url}")
        elif event.event == "failed":
            failure = event.error.failure()
            failure.traceback = ""  # the container has printed it
            script.quote(failure, self._sources.values())
            output.show_failure(failure)

    async def _reload(self, client: "Client", session: str) -> None:
        """Reload after each save of a file that the script uses; a newer save replaces an older one."""
        while True:
            await self._saved.wait()
            self._saved.clear()
            renewing = asyncio.create_task(self._renew(client, session))
            try:
                saved_again = asyncio.create_task(self._saved.wait())
                await asyncio.wait({renewing, saved_again}, return_when=asyncio.FIRST_COMPLETED)
                saved_again.cancel()
                if not renewing.done() and not self._declaring:
                    await asyncio.wait({renewing}, timeout=PATIENCE_S)
            finally:
                renewing.cancel()
                await asyncio.wait({renewing})
            if not renewing.cancelled():
                renewing.result()

    async def _renew(self, client: "Client", session: str) -> None:
        serving = self._serving
        try:
            declared = await self._declare()
            self._warn(declared)
            self._serving, self._sources = None, declared.sources
            if serving is None or declared.manifest != serving.manifest:
                with live.line("uploading files") as uploading:
                    await client.blobs.upload(declared.sources, uploading.sized)
                endpoints = await client.sessions.reload(session, declared.manifest)
                output.say("✓ Reloaded")
                if self.mirror is not None:
                    self.mirror.serves(endpoints)
                if serving is None or urls(declared) != urls(serving):
                    output.show_endpoints(endpoints)
            self._serving = declared
        except ServerUnreachable:
            raise
        except Failure as failure:
            self._serving = serving
            self._builds.fail()
            self._shown.shorten(failure)
            script.quote(failure, self._sources.values())
            output.show_failure(failure)
            output.say("the version before continues to serve")

    async def _watch(self) -> None:
        """Set `_saved` after a save of a file that the script used when it was last loaded."""
        polls: bool | None = None  # None: as the variables of watchfiles say
        while True:
            self._watching = self._folders()
            self._moved.clear()
            try:
                await self._watch_folders(polls)
            except FileNotFoundError:  # a folder that has just been removed
                await asyncio.sleep(POLL_MS / 1000)
            except (OSError, RuntimeError) as error:  # the limit of inotify (man 7 inotify)
                if polls:
                    raise
                polls = True
                output.warn(f"the system watches no more files ({error}): homeport looks at them")

    async def _watch_folders(self, polls: bool | None) -> None:
        import watchfiles

        first = True
        async for changes in watchfiles.awatch(
            *self._watching,
            watch_filter=self._concerns,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            recursive=False,
            rust_timeout=POLL_MS,
            yield_on_timeout=True,
            stop_event=self._moved,
            force_polling=polls,
        ):
            # Files saved before the watch began are found by their state.
            missed = first and not changes and not self._declaring and self._changed()
            first = False
            if changes or missed:
                self._saved.set()

    def _folders(self) -> list[str]:
        folders = set()
        for path in self._declarer.watch:
            folders.add(path if Path(path).is_dir() else str(Path(path).parent))
        return sorted(folder for folder in folders if Path(folder).is_dir())

    def _concerns(self, _change: "watchfiles.Change", path: str) -> bool:
        watch, changed = self._declarer.watch, Path(path)
        if changed.name in PROBES or changed.name in patterns.CACHES:
            return False
        # A new Python file counts too, and a new file in a directory that the script used.
        return path in watch or changed.suffix == ".py" or str(changed.parent) in watch

    def _changed(self) -> bool:
        return any(watched.state(p) != state for p, state in self._declarer.watch.items())

    async def _declare(self) -> Declared:
        self._declaring = True
        try:
            return await self._declarer.declare()
        finally:
            self._declaring = False
            if self._folders() != self._watching:
                self._moved.set()

    def _warn(self, declared: Declared) -> None:
        for text in declared.warnings:
            if text not in self._said:
                self._said.add(text)
                output.warn(text)


def urls(declared: Declared) -> list[tuple[str, str | None, bool]]:
    """Return the parts of a manifest that decide a script's URLs."""
    return [
        (web.tag, web.label, web.requires_proxy_auth)
        for function in declared.manifest.functions
        for web in function.web
    ]
