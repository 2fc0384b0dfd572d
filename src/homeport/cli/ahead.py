"""Starts processes that a command will need before the command line is imported, so that all import at the same time.

There are two: one loads the script, the other becomes the server if none runs. `homeport.__main__` calls `begin`; the
command takes them with `take` and `take_server` once it has read its arguments. `end` ends those that the command did not
want; if the command is killed, their standard input closes, and so they end too.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from homeport.contract.dataclass import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from homeport.settings import Settings

COMMANDS = frozenset({"serve", "deploy"})  # those that load a script for its manifest alone
SERVED = COMMANDS | {"run"}  # those that start a server if none runs
HELP = frozenset({"-h", "--help"})


@dataclass(frozen=True, slots=True)
class Begun:
    """A process of sdk/declare/__main__.py that waits for `Load` on its standard input."""

    process: subprocess.Popen[bytes]
    answers: int  # the descriptor with its lines
    environ: dict[str, str]  # its variables
    cwd: str


@dataclass(frozen=True, slots=True)
class Server:
    """A process of the control plane that waits for `Start` on its standard input."""

    process: "subprocess.Popen[str]"
    home: "Path"
    environ: dict[str, str]


_begun: Begun | None = None
_server: Server | None = None


def begin(words: Sequence[str]) -> None:
    """Start the processes that the command will need; `words` are its arguments."""
    global _begun, _server  # noqa: PLW0603 - one process has one command
    if not words or words[0] not in SERVED or HELP.intersection(words):
        return
    environ = dict(os.environ)
    with contextlib.suppress(OSError):  # then the command starts one itself, and reports the error
        if words[0] in COMMANDS:
            cwd = os.getcwd()  # noqa: PTH109 - pathlib is not imported yet
            process, answers = start("--ahead")
            _begun = Begun(process, answers, environ, cwd)
    _server = _control_plane(environ)


def take() -> Begun | None:
    """Return the process, if there is one that a new one would be like; the next call returns None."""
    global _begun
    loader, _begun = _begun, None
    if loader is None:
        return None
    if loader.environ == dict(os.environ) and loader.cwd == os.getcwd():  # noqa: PTH109
        return loader
    _end(loader)
    return None


def take_server(settings: "Settings | None") -> "subprocess.Popen[str] | None":
    """Return the process that becomes this home's server, if there is one; the next call returns None.

    Without settings, the command needs no new server.
    """
    global _server
    server, _server = _server, None
    if server is None:
        return None
    if settings is not None and (settings.home, dict(os.environ)) == (server.home, server.environ):
        return server.process
    _end(server)
    return None


def end() -> None:
    """End the processes that no command has taken, and wait for that: nothing runs when the command has ended."""
    global _begun, _server  # noqa: PLW0603 - one process has one command
    for left in (_begun, _server):
        if left is not None:
            _end(left)
    _begun = _server = None


def _end(left: Begun | Server) -> None:
    if isinstance(left, Begun):
        os.close(left.answers)
    left.process.kill()
    left.process.communicate()


def start(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process that loads scripts; return it with the descriptor of its answers."""
    answers, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "homeport.sdk.declare", *words],
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


def _control_plane(environ: Mapping[str, str]) -> Server | None:
    """Start a process of the control plane if no server listens; if that fails, the command reports the error."""
    from homeport import settings as all_settings  # the loader's process imports meanwhile
    from homeport.cli import control
    from homeport.contract.errors import Failure

    with contextlib.suppress(OSError, Failure):
        settings = all_settings.load(environ)
        if not settings.server and not control.is_listening(settings):
            return Server(control.start(settings), settings.home, dict(environ))
    return None
