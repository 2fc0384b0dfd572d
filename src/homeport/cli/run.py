"""`homeport run`: runs a local entrypoint or a function of a script, whose app lives as long as that takes."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from homeport.cli import options, output, script, server, signals
from homeport.cli import session as sessions
from homeport.contract import codec
from homeport.contract.declaring import Answer, Declared, Go
from homeport.contract.errors import Failure, ScriptError
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client

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
    detach: Annotated[
        bool,
        typer.Option(
            "-d",
            "--detach",
            help="Calls that it spawns continue after the command, on the background server.",
        ),
    ] = False,
    interactive: Annotated[bool, typer.Option("-i", "--interactive", hidden=True)] = False,
    environment: options.Environment = None,
    module: options.Module = False,
    timestamps: options.Timestamps = False,
    build_log: options.BuildLog = False,
    host: options.Host = None,
    http_port: options.HttpPort = None,
) -> None:
    """Run a local entrypoint or a function of a script; meanwhile the server serves the script's functions."""
    if interactive:
        raise Failure(
            "`homeport run --interactive` is not there yet",
            hint="`homeport shell SCRIPT::FUNCTION` opens a shell in a container of the function",
        )
    settings = options.load(environment=environment, host=host, http_port=http_port)
    with _on_disk(ref) as script:
        arguments = [script, *(["-m"] if module else []), f"--name={name}", f"--write={write}"]
        arguments += ["--", *(words or [])]
        show = sessions.Show(quiet=quiet, timestamps=timestamps, build_log=build_log)
        running = Run(settings, script, arguments, show=show, detach=detach)
        code = asyncio.run(running.run())
    raise typer.Exit(code)


@contextlib.contextmanager
def _on_disk(ref: str) -> Iterator[str]:
    """Return the reference; `-` is a script that standard input has: it is in a file meanwhile."""
    if ref != "-":
        yield ref
        return
    text = sys.stdin.buffer.read()
    with tempfile.TemporaryDirectory(prefix="homeport-run-") as directory:
        path = Path(directory) / "stdin.py"
        path.write_bytes(text)
        yield str(path)


class Run:
    """One `homeport run`."""

    def __init__(
        self,
        settings: Settings,
        ref: str,
        words: list[str],
        *,
        show: sessions.Show,
        detach: bool,
    ) -> None:
        self._settings = settings
        self._ref = ref
        self._child = _Child(words)
        self._detach = detach
        self._app = ""  # the app's name, once it is known
        self._interrupts = 0
        self._runs = False  # True once `Go` was sent to the script
        self._work: asyncio.Task[int] | None = None
        self._show = show

    async def run(self) -> int:
        """Run it; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in signals.that_end():
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        self._work = asyncio.create_task(self._all())
        try:
            code = await self._work
        except asyncio.CancelledError:
            code = 1
        except Failure as failure:
            self._show.builds.end()
            if self._interrupts:  # the user has interrupted the script, so its failure is not shown
                self._aborted()
                return 1
            self._show.shown.shorten(failure)
            script.quote(failure, self._show.sources.values())
            raise
        self._show.builds.end()
        if self._interrupts:
            self._aborted()
            return 1
        if self._detach and self._runs:
            self._show.say(sessions.left_running(self._app))
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
            self._app, self._show.sources = declared.name, declared.sources
            for text in declared.warnings:
                output.warn(text)
            reached = server.background if self._detach else server.borrowed
            async with reached(self._settings) as client:
                return await self._with(client, declared)

    async def _with(self, client: "Client", declared: Declared) -> int:
        """Run the script while the server serves its functions; if it has none, without a session."""
        if not declared.manifest.functions:
            return await self._go(declared, None)
        async with sessions.served(client, declared, self._show, detach=self._detach) as session:
            going = asyncio.create_task(self._go(declared, session))
            over = asyncio.Event()
            going.add_done_callback(lambda _task: over.set())
            try:
                await session.lasts(over)
                await session.settle()
                return going.result()
            finally:
                going.cancel()
                await asyncio.wait({going})

    async def _go(self, declared: Declared, session: sessions.Session | None) -> int:
        """Send `Go` to the script; return its exit code."""
        self._show.builds.end()
        self._runs = True
        settings = self._settings
        go = Go(
            socket=settings.server or str(settings.calls_socket),
            app=declared.name,
            scope=session.id if session is not None else "",
            environment=settings.environment,
            key=session.key if session is not None else "",
            token=settings.token if settings.server else "",
            detach=self._detach,
            urls=session.urls if session is not None else {},
            local_urls=session.local_urls if session is not None else {},
        )
        code = await self._child.go(go)
        if code < 0 and not self._interrupts:
            raise ScriptError(f"the script was ended by {signals.name(-code)}")
        if code == 0 and not self._interrupts:
            self._show.say("✓ App completed.")
        return max(code, 0)

    def _aborted(self) -> None:
        self._show.say("✓ App aborted.")
        if self._detach and self._runs:
            self._show.say(sessions.left_running(self._app))


class _Child:
    """The process that loads and runs the script (sdk/declare/run.py)."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._go = -1  # where it reads `Go`

    async def __aenter__(self) -> Self:
        script.check_directory()
        answers, theirs = os.pipe()
        into, self._go = os.pipe()
        try:
            # In the terminal's foreground, as the script may ask its user something.
            with _blocked(signal.SIGINT):  # until it can handle it
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
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
        """Return the loader's answer about the script; an empty one if it has ended without an answer."""
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


@contextlib.contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Block a signal; a process that is started meanwhile begins with it blocked (man 7 signal)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
