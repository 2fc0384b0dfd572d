"""Lets a forked container start again in a fresh interpreter.

A container starts again if a preloaded module differs from what the script would import now
(sdk/preload/shelf.py). The script has run as far as that import. execve(2) replaces the process, so pid, init,
door, report and /tmp stay the same. Child processes are ended, and lines already printed are not printed
twice.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from homeport.contract.container import Descriptors, Launch, sent
from homeport.contract.image import HOME
from homeport.runner import family, lines, setup
from homeport.runner.report import Report

AGAIN = "HOMEPORT_AGAIN_FD"
SERVES = "serve"  # the report's phase once requests may be inside


class Beginning:
    """Everything that a container needs to start again; make it before the user's code runs."""

    def __init__(self, launch: Launch, descriptors: Descriptors, lib: str) -> None:
        self._launch = launch
        self._given = descriptors
        self._lib = lib  # the folder that homeport is imported from
        # A copy, because the runner closes its descriptor after mapping it.
        self._pulse = os.dup(descriptors.pulse)
        self._environ = dict(os.environ)
        self._masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._umask = os.umask(0o022)
        os.umask(self._umask)

    def forget(self) -> None:
        """Close the descriptors: from now on the container cannot start again."""
        os.close(self._pulse)

    def once_more(self, report: Report, reason: str, modules: Sequence[str]) -> NoReturn:
        """Report the reason, and start again."""
        report.again(reason, tuple(modules))
        family.end()
        self.start_again([lines.shown(stream) for stream in (sys.stdout, sys.stderr)])

    def start_again(self, shown: "Sequence[Sequence[str]]" = ((), ())) -> NoReturn:
        """Begin in a fresh interpreter; the lines `shown` were printed already."""
        data = {"launch": sent(self._launch), "shown": shown}
        handle = os.memfd_create("again")
        os.write(handle, json.dumps(data).encode())
        inherited = [self._given.report, self._given.door, self._pulse, handle]
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), int(name) <= 2 or int(name) in inherited)
        os.umask(self._umask)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masked)
        environ = {
            **self._environ,
            "HOMEPORT_REPORT_FD": str(inherited[0]),
            "HOMEPORT_DOOR_FD": str(inherited[1]),
            "HOMEPORT_PULSE_FD": str(inherited[2]),
            AGAIN: str(handle),
        }
        words = [sys.executable, "-m", "homeport.runner"]
        if self._launch.entrypoint:
            _enter(self._launch, self._lib, words, environ)
        os.chdir(self._lib)
        os.execve(sys.executable, words, environ)  # noqa: S606


def _enter(launch: Launch, lib: str, words: list[str], environ: dict[str, str]) -> NoReturn:
    """Become the image's entrypoint, which starts the runner at its end: `exec "$@"`."""
    setup.go_to(launch.function.image.workdir or HOME, "/", makes=True)  # this is a cell
    # The entrypoint may go to another directory, and the runner is imported from its own.
    words = [*launch.entrypoint, "/bin/sh", "-c", 'cd "$0" && exec "$@"', lib, *words]
    try:
        os.execvpe(words[0], words, environ)  # noqa: S606
    except OSError as error:
        what = f"the image's entrypoint `{words[0]}` cannot be started: {error.strerror}"
        os.write(2, f"{what}. `.entrypoint([])` starts containers without it.\n".encode())
        os._exit(127)


def earlier_data() -> "dict[str, Any] | None":
    """Return the data of an earlier start of this container in another interpreter; None if this is the first."""
    handle = os.environ.pop(AGAIN, None)
    if handle is None:
        return None
    with os.fdopen(int(handle), "rb") as file:
        file.seek(0)
        data: dict[str, Any] = json.load(file)
    return data


def node_descriptors() -> Descriptors:
    """Return the node's descriptors, which this container had before it started again; init has kept its own."""
    number = [int(os.environ.pop(f"HOMEPORT_{name}_FD")) for name in ("REPORT", "DOOR", "PULSE")]
    return Descriptors(output=1, report=number[0], door=number[1], pulse=number[2])
