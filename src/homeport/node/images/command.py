"""Runs a program of an image build: passes on its output by lines, and ends it with the server.

The program leads a process group. A shell beside it reads a pipe whose other end only this process has. When
that end closes, even by SIGKILL, the shell kills the whole group, so that no process continues to write into
an incomplete layer.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KEPT_LINES = 500  # of the output: a failed compiler prints a lot after the line with the reason
LONGEST = 1024 * 1024  # bytes of one line; longer lines are dropped
CHUNK_BYTES = 64 * 1024
_LEASH = 'exec 3<&0 </dev/null; { read _ <&3; kill -9 -$$; } >/dev/null 2>&1 & exec 3<&-; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The exit code and the last output of a program."""

    code: int
    lines: list[str]  # the last ones that it printed

    @property
    def text(self) -> str:
        """The last lines of its output, as one text."""
        return "\n".join(self.lines).strip("\n")


async def run(
    argv: Sequence[str], *, environ: Mapping[str, str], cwd: Path, say: Callable[[str], None]
) -> Done:
    """Run a program until it ends; if the caller is cancelled, kill all of its processes."""
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
    try:
        code = await process.wait()
    finally:
        # Kill processes that it left running: they hold its output open, and must not outlive the step.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await reading
    return Done(code=code, lines=lines)


async def _read(stream: asyncio.StreamReader, lines: list[str], say: Callable[[str], None]) -> None:
    async for line in _split(stream):
        # A progress bar redraws its line; keep its last state.
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
        del lines[: -KEPT_LINES + 1]
        lines.append(text)
        say(text)


async def _split(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the whole lines of a stream; drop lines that are too long."""
    rest, too_long = b"", False
    while chunk := await stream.read(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not too_long and len(line) <= LONGEST:
                yield line
            too_long = False
        if too_long or len(rest) > LONGEST:
            rest, too_long = b"", True
    if rest:
        yield rest
