"""Starts the process of the control plane: for `server`, and for `ahead`, which imports no more than this needs."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

from homeport.contract.errors import StorageError
from homeport.settings import Settings


def is_listening(settings: Settings) -> bool:
    """Return whether a server of this home takes commands."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(settings.control_socket))
        return True
    return False


def start(settings: Settings) -> "subprocess.Popen[str]":
    """Start a process that imports the control plane, and waits for `Start` on its standard input.

    It ends if its standard input closes first. Its log is in the home.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with Path(settings.home / "server.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "homeport.control"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                cwd="/",
            )
    except OSError as error:
        raise StorageError(
            f"cannot write to {settings.home}: {error.strerror}",
            hint="name another directory in HOMEPORT_HOME",
        ) from None
