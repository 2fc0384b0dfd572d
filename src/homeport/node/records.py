"""What is written down of a container, so that a server that comes later can take it over or end it."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Collection
from pathlib import Path

import psutil

from homeport.contract import codec
from homeport.contract.container import Container, State
from homeport.node.process import session_members

SAME_S = 0.01  # two processes with one pid are at least that far apart
PATIENCE_S = 2.0


def write(directory: Path, container: Container) -> None:
    """Make it known; nothing is written of a process that has ended."""
    with contextlib.suppress(psutil.Error):
        born = psutil.Process(container.pid).create_time()
        told = {"pid": container.pid, "created": born, "container": codec.encode(container)}
        fresh = directory / "record.new"
        fresh.write_text(json.dumps(told))
        fresh.replace(directory / "record")


def sweep(root: Path, sockets: Path) -> Collection[Container]:
    """What an earlier server left: those that are ready go on, the others are ended."""
    ready = []
    for directory in root.iterdir():
        container = _left(directory / "record")
        if container is not None and container.state is State.READY:
            ready.append(container)
            continue
        if container is not None:
            _end(container.pid)
        shutil.rmtree(directory, ignore_errors=True)
    kept = {container.spec.socket for container in ready}
    for socket in sockets.glob("*.sock"):
        if str(socket) not in kept:
            socket.unlink(missing_ok=True)
    return ready


def _left(record: Path) -> Container | None:
    """A container that still runs; whoever else has its pid now is let be."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, psutil.Error):
        known = json.loads(record.read_text())
        container: Container = codec.decode(Container, known["container"])
        process = psutil.Process(known["pid"])
        is_same = abs(process.create_time() - known["created"]) < SAME_S
        if is_same and process.status() != psutil.STATUS_ZOMBIE:
            return container
    return None


def _end(leader: int) -> None:
    for pid in session_members(leader):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(psutil.Error):
        psutil.Process(leader).wait(PATIENCE_S)


def in_words(code: int | None) -> str:
    """How a process ended."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    why = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{why}"
