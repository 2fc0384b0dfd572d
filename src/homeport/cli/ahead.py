"""Starts the process that loads a script before the command line is imported, so that both import at the same time.

`homeport.__main__` calls `begin`; the command takes the process with `take` once it has read its arguments. A command
that does not want it closes its standard input by ending, and so the process ends too.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

COMMANDS = frozenset({"serve", "deploy"})  # those that load a script for its manifest alone
HELP = frozenset({"-h", "--help"})


@dataclass(frozen=True, slots=True)
class Begun:
    """A process of sdk/declare/__main__.py that waits for `Load` on its standard input."""

    process: subprocess.Popen[bytes]
    answers: int  # the descriptor with its lines
    environ: dict[str, str]  # its variables
    cwd: str


_begun: Begun | None = None


def begin(words: Sequence[str]) -> None:
    """Start the process if the command will load a script; `words` are its arguments."""
    global _begun  # noqa: PLW0603 - one process has one command
    if not words or words[0] not in COMMANDS or HELP.intersection(words):
        return
    with contextlib.suppress(OSError):  # then the command starts one itself, and says what is wrong
        environ, cwd = dict(os.environ), os.getcwd()  # noqa: PTH109 - pathlib is not imported yet
        process, answers = start("--ahead")
        _begun = Begun(process, answers, environ, cwd)


def take() -> Begun | None:
    """Return the process, if there is one that a new one would be like; the next call returns None."""
    global _begun
    begun, _begun = _begun, None
    if begun is None:
        return None
    if begun.environ == dict(os.environ) and begun.cwd == os.getcwd():  # noqa: PTH109
        return begun
    os.close(begun.answers)
    begun.process.kill()
    begun.process.communicate()
    return None


def start(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process that loads scripts; return it with the descriptor of its answers."""
    answers, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "homeport.sdk.declare", *words],
            stdin=subprocess.PIPE,
            stdout=2,  # the command's own output has no other text
            pass_fds=(write,),
            env={**os.environ, "HOMEPORT_DECLARE_FD": str(write)},
            start_new_session=True,  # Ctrl-C is for the command to handle
        )
    except BaseException:
        os.close(answers)
        raise
    finally:
        os.close(write)
    return process, answers
