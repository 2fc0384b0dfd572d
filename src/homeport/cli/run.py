"""`homeport run`: runs a local entrypoint or a function of a script, whose app lives as long as that takes."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Self

import typer

from homeport.cli import options, output, script, server
from homeport.contract import codec
from homeport.contract.declaring import Answer, Declared, Go
from homeport.contract.errors import BadRequest, Failure, ScriptError, ServerUnreachable
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client
    from homeport.contract.api.events import Event

QUIET_S = 0.2  # the last lines of containers may come later than the answers of their calls
LONGEST_S = 3.0
STEP_S = 0.02
FORCED = 3  # that many times Ctrl-C, and the script is killed
#: Words after the script are for the function, also those that begin with a dash.
CONTEXT = {"allow_interspersed_args": False}


def run(
    ref: Annotated[
        str,
        typer.Argument(metavar="SCRIPT", help="path/script.py[::function], or a module with -m."),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGUMENTS]...",
            help="Options of the function, from its signature; --help shows them.",
            show_default=False,
        ),
    ] = None,
    name: options.Name = "",
    write: Annotated[
        str,
        typer.Option(
            "-w",
            "--write-result",
            metavar="FILE",
            help="Write the result, str or bytes, to a file.",
        ),
    ] = "",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show what is printed and what fails, no more.")
    ] = False,
    detach: Annotated[bool, typer.Option("-d", "--detach", hidden=True)] = False,
    module: options.Module = False,
    timestamps: options.Timestamps = False,
    host: options.Host = None,
    http_port: options.HttpPort = None,
) -> None:
    """Run a local entrypoint or a function of a script; meanwhile the server serves the script's functions."""
    if detach:
        raise Failure(
            "`homeport run --detach` is not there yet",
            hint="`homeport deploy` leaves the app running; a script then calls it by "
            "`modal.Function.from_name(…).remote()`",
        )
    settings = options.load(host=host, http_port=http_port)
    if settings.server:
        raise BadRequest(
            "`homeport run` needs a server on this machine, and HOMEPORT_SERVER names another one",
            hint="`homeport deploy` deploys the app there",
        )
    told = [ref, *(["-m"] if module else []), f"--name={name}", f"--write={write}"]
    told += ["--", *(words or [])]
    running = Run(settings, ref, told, quiet=quiet, timestamps=timestamps)
    code = asyncio.run(running.run())
    raise typer.Exit(code)


class Run:
    """One `homeport run`."""

    def __init__(
        self, settings: Settings, ref: str, words: list[str], *, quiet: bool, timestamps: bool
    ) -> None:
        self._settings = settings
        self._ref = ref
        self._child = _Child(words)
        self._quiet = quiet
        self._timestamps = timestamps
        self._interrupts = 0
        self._runs = False  # True once the script was told to go on
        self._work: asyncio.Task[int] | None = None
        self._sources: dict[str, str] = {}
        self._last = 0.0  # when the last event came
        self._shown = output.Shown()
        self._progress = output.Progress()

    async def run(self) -> int:
        """Run it; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end)
        self._work = asyncio.create_task(self._all())
        try:
            code = await self._work
        except asyncio.CancelledError:
            code = 1
        except Failure as failure:
            self._progress.end()
            if self._interrupts:  # what was interrupted says that it did not end well
                self._say("✓ App aborted.")
                return 1
            self._shown.shorten(failure)
            script.quote(failure, self._sources.values())
            raise
        self._progress.end()
        if self._interrupts:
            self._say("✓ App aborted.")
            return 1
        return code

    def _interrupt(self) -> None:
        """Hand Ctrl-C to the script, which may clean up; before it runs there is nothing to clean up."""
        self._interrupts += 1
        if self._runs and self._interrupts < FORCED:
            self._child.send(signal.SIGINT)
        else:
            self._end()

    def _end(self) -> None:
        self._interrupts = self._interrupts or 1
        self._child.send(signal.SIGKILL)
        if not self._runs and self._work is not None:
            self._work.cancel()

    async def _all(self) -> int:
        async with self._child as child:
            answer = await child.answer()
            if answer.error is not None:
                raise answer.error.failure()
            if answer.code is not None:
                return answer.code
            if answer.declared is None:
                code = await child.wait()
                raise ScriptError(f"loading `{self._ref}` ended with exit code {code}")
            declared = answer.declared
            self._sources = declared.sources
            for text in declared.warnings:
                output.warn(text)
            async with server.borrowed(self._settings) as client:
                return await self._with(client, declared)

    async def _with(self, client: "Client", declared: Declared) -> int:
        """Run the script while the server serves its functions; if it has none, without a session."""
        if not declared.manifest.functions:
            return await self._go(declared, "")
        await client.blobs.upload(declared.sources)
        async with client.sessions.serve(declared.manifest) as events:
            first = await anext(events, None)
            if first is None or first.event != "session":
                raise ServerUnreachable("the server ended before it served anything")
            async for event in events:
                self._tell(event)
                if event.event == "serving":
                    break
            showing = asyncio.create_task(self._show(events))
            going = asyncio.create_task(self._go(declared, first.id))
            try:
                await asyncio.wait({showing, going}, return_when=asyncio.FIRST_COMPLETED)
                if not going.done():
                    showing.result()
                    raise ServerUnreachable("the server has ended, and so has this session")
                await self._settle(showing)
                return going.result()
            finally:
                for task in (showing, going):
                    task.cancel()
                await asyncio.wait({showing, going})

    async def _go(self, declared: Declared, session: str) -> int:
        """Let the script go on; return how it ended."""
        self._progress.end()
        self._runs = True
        path = str(self._settings.calls_socket)
        code = await self._child.go(Go(socket=path, app=declared.name, scope=session))
        if code < 0 and not self._interrupts:
            raise ScriptError(f"the script was ended by {signal.Signals(-code).name}")
        if code == 0 and not self._interrupts:
            self._say("✓ App completed.")
        return max(code, 0)

    async def _show(self, events: "AsyncIterator[Event]") -> None:
        async for event in events:
            self._tell(event)

    async def _settle(self, showing: "asyncio.Task[None]") -> None:
        """Wait until no more lines come from the containers."""
        loop = asyncio.get_running_loop()
        ended = self._last = loop.time()
        while not showing.done() and loop.time() < min(self._last + QUIET_S, ended + LONGEST_S):
            await asyncio.sleep(STEP_S)

    def _tell(self, event: "Event") -> None:
        self._last = asyncio.get_running_loop().time()
        self._shown.add(event)
        if event.event != "progress":
            self._progress.end()
        if event.event == "serving":
            for endpoint in event.endpoints:
                if endpoint.url:
                    self._say(f"  {endpoint.tag}  {endpoint.url}  (or {endpoint.local_url})")
        elif event.event == "log":
            output.show_line(event.line, timestamps=self._timestamps, talk=True)
        elif event.event == "progress" and not self._quiet:
            self._progress.show(event.text)
        elif event.event == "failed":
            failure = event.error.failure()
            failure.traceback = ""  # the container has printed it
            script.quote(failure, self._sources.values())
            output.show_failure(failure)

    def _say(self, text: str) -> None:
        if not self._quiet:
            output.say(text)


class _Child:
    """The process that loads and runs the script (sdk/declare/run.py)."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._go = -1  # where it reads `Go`

    async def __aenter__(self) -> Self:
        answers, theirs = os.pipe()
        into, self._go = os.pipe()
        try:
            # In the terminal's foreground, as the script may ask its user something.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "homeport.sdk.declare.run",
                *self._words,
                pass_fds=(theirs, into),
                env={**os.environ, "HOMEPORT_RUN_FDS": f"{theirs},{into}"},
            )
        except BaseException:
            os.close(answers)
            raise
        finally:
            os.close(theirs)
            os.close(into)
        loop = asyncio.get_running_loop()
        reader = self._reader = asyncio.StreamReader(limit=script.MAX_LINE)
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers, "rb")
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
        if self._transport is not None:
            self._transport.close()
        self.send(signal.SIGKILL)
        await self.wait()

    async def answer(self) -> Answer:
        """Return what it says about the script; an empty answer if it has ended without one."""
        assert self._reader is not None
        return script.read(await self._reader.readline())

    async def go(self, go: Go) -> int:
        """Let it run; return its exit code, -N for the signal N."""
        with contextlib.suppress(OSError):  # it has ended
            os.write(self._go, codec.line(go))
        self._close()
        return await self.wait()

    async def wait(self) -> int:
        """Return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _close(self) -> None:
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
