"""Runs a program of an image build: passes on its output by lines, and ends it with the server.

The program leads a process group. A shell beside it reads a pipe whose other end only this process has. When
that end closes, even by SIGKILL, the shell kills the whole group, so that no process continues to write into
an incomplete layer.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport.contract.dataclass import dataclass

KEPT_LINES = 500  # of the output: a failed compiler prints a lot after the line with the reason
LONGEST = 1024 * 1024  # bytes of one line; longer lines are dropped
CHUNK_BYTES = 64 * 1024
_LEASH = 'exec 3<&0 </dev/null; { read _ <&3; kill -9 -$$; } >/dev/null 2>&1 & exec 3<&-; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The exit code and the last output of a program."""

    code: int
    lines: list[str]  # the last ones that it printed
    stopped: str = ""  # why it was killed, if it was

    @property
    def text(self) -> str:
        """The last lines of its output, as one text."""
        return "\n".join(self.lines).strip("\n")


async def run(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    say: Callable[[str], None],
    exceeded: Callable[[int], Coroutine[Any, Any, str]] | None = None,
) -> Done:
    """Run a program until it ends; if the caller is cancelled, kill all of its processes.

    `exceeded` gets the leader of its session, and returns when the program has to be killed, with the reason.
    """
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        _LEASH,
        "homeport",
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environ),
        cwd=cwd,
        start_new_session=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reading = asyncio.create_task(_read(process.stdout, lines, say))
    ending = asyncio.create_task(process.wait())
    watching = asyncio.create_task(exceeded(process.pid)) if exceeded is not None else None
    try:
        tasks = {ending} if watching is None else {ending, watching}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
        if watching is not None:
            watching.cancel()
        # Kill processes that it left running: they hold its output open, and must not outlive the step.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
        await reading
    stopped = ""
    if watching is not None and watching.done() and not watching.cancelled():
        stopped = watching.result()
    return Done(code=code, lines=lines, stopped=stopped)


def shown(line: str) -> str:
    """Return a line as a terminal shows it in the end: a progress bar rewrites its line.

    >>> shown("10 %\\r99 % ")
    '99 %'
    """
    return line.rstrip().rpartition("\r")[2]


async def _read(stream: asyncio.StreamReader, lines: list[str], say: Callable[[str], None]) -> None:
    async for line in _split(stream):
        text = shown(line.decode(errors="replace"))
        del lines[: -KEPT_LINES + 1]
        lines.append(text)
        say(text)


async def _split(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the whole lines of a stream; drop lines that are too long."""
    partial_line, too_long = b"", False
    while chunk := await stream.read(CHUNK_BYTES):
        *whole, partial_line = (partial_line + chunk).split(b"\n")
        for line in whole:
            if not too_long and len(line) <= LONGEST:
                yield line
            too_long = False
        if too_long or len(partial_line) > LONGEST:
            partial_line, too_long = b"", True
    if partial_line:
        yield partial_line
