"""`homeport serve`: a script while it is being written."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer
import watchfiles

from homeport.cli import options, output, script, server
from homeport.cli.script import Declared
from homeport.client import Client, Event
from homeport.contract.errors import Failure, ServerUnreachable
from homeport.settings import Settings

DEBOUNCE_MS = 200  # an editor saves several files, or one in several steps
STEP_MS = 10
POLL_MS = 500
PROBES = frozenset({".DS_Store", "4913"})  # what editors write to see whether they can


def serve(
    ref: options.Ref,
    name: options.Name = "",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which it ends.")] = None,
    module: options.Module = False,
    timestamps: options.Timestamps = False,
    host: options.Host = None,
    http_port: options.HttpPort = None,
) -> None:
    """Serve a script, live: reload when you save, end with Ctrl-C."""
    settings = options.load(host=host, http_port=http_port)
    session = Session(settings, ref, name=name, module=module, timestamps=timestamps)
    asyncio.run(session.run(timeout))


class Session:
    """One `homeport serve`."""

    def __init__(
        self, settings: Settings, ref: str, *, name: str, module: bool, timestamps: bool
    ) -> None:
        self._settings = settings
        self._declarer = script.Declarer(ref, module=module, name=name)
        self._timestamps = timestamps
        self._stop = asyncio.Event()
        self._declared_at = 0.0
        self._said: set[str] = set()  # warnings are told once

    async def run(self, seconds: float | None) -> None:
        """Until Ctrl-C, the timeout, or the server's end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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
        # Loading the script and starting a server take about as long: at once, then.
        declaring = asyncio.create_task(self._declare())
        try:
            async with server.borrowed(self._settings) as client:
                declared = await declaring
                self._warn(declared)
                await client.upload(declared.sources)
                async with client.serve(declared.manifest) as events:
                    await self._live(client, declared, events)
        finally:
            declaring.cancel()
            with contextlib.suppress(asyncio.CancelledError, Failure):
                await declaring
            await self._declarer.close()

    async def _live(self, client: Client, declared: Declared, events: AsyncIterator[Event]) -> None:
        first = await anext(events, None)
        if first is None:
            raise ServerUnreachable("the server ended before it served anything")
        async for event in events:
            self._tell(event)
            if event["event"] == "serving":
                break
        async with asyncio.TaskGroup() as group:
            group.create_task(self._show(events))
            group.create_task(self._watch(client, first["id"], declared))

    async def _show(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self._tell(event)
        if not self._stop.is_set():
            raise ServerUnreachable("the server has ended, and so has this session")

    def _tell(self, event: Event) -> None:
        kind = event["event"]
        if kind == "serving":
            output.show_endpoints(event["endpoints"])
            output.say("⚡️ Serving... hit Ctrl-C to stop!")
        elif kind == "log":
            output.show_line(event["line"], timestamps=self._timestamps)
        elif kind == "progress":
            output.say(event["text"])
        elif kind == "stolen":
            output.warn(f"another session has taken {event['url']}")
        elif kind == "failed":
            failure = Failure.from_dict(event["error"])
            failure.traceback = ""  # the container has printed it
            output.show_failure(failure)

    async def _watch(self, client: Client, session: str, declared: Declared) -> None:
        """Reload whenever a local module of the script is saved."""
        serving = declared
        while True:
            await self._saved(serving, self._declared_at)
            try:
                declared = await self._declare()
                self._warn(declared)
                if declared.manifest != serving.manifest:
                    await client.upload(declared.sources)
                    endpoints = await client.reload(session, declared.manifest)
                    output.say("✓ Reloaded")
                    if urls(declared) != urls(serving):
                        output.show_endpoints(endpoints)
                serving = declared
            except ServerUnreachable:
                raise
            except Failure as failure:
                output.show_failure(failure)
                output.say("the version before goes on serving")

    async def _saved(self, declared: Declared, since: float) -> None:
        """Return once a file of the script is saved, or was since then (seconds of the epoch)."""
        files = {str(Path(path)) for path in declared.watch}
        folders = {str(Path(path).parent) for path in files}

        def concerns(_change: watchfiles.Change, path: str) -> bool:
            found = Path(path)
            # A new module of the script's own is one, too.
            return found.name not in PROBES and (path in files or found.suffix == ".py")

        async for changes in watchfiles.awatch(
            *_existing(folders),
            watch_filter=concerns,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            recursive=False,
            rust_timeout=POLL_MS,
            yield_on_timeout=True,
        ):
            # What was saved while nobody watched is seen by its date.
            if changes or any(since < _saved_at(path) <= time.time() for path in files):
                return

    async def _declare(self) -> Declared:
        self._declared_at = time.time()
        return await self._declarer.declare()

    def _warn(self, declared: Declared) -> None:
        for text in declared.warnings:
            if text not in self._said:
                self._said.add(text)
                output.warn(text)


def _existing(folders: set[str]) -> list[str]:
    return sorted(folder for folder in folders if Path(folder).is_dir())


def _saved_at(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def urls(declared: Declared) -> list[Any]:
    """What a script's URLs depend on."""
    return [
        (web["tag"], web["label"], web["requires_proxy_auth"])
        for function in declared.manifest["functions"]
        for web in function["web"]
    ]
