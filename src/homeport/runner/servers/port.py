"""`web_server` and servers: the user's program listens on a port, and relay.py sends requests to it.

The script's code starts the program. This module waits for the port, checks that the port belongs to this
container, notices the program's end, and ends it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from homeport.contract.manifest import FunctionSpec, WebMethod
from homeport.runner import family, ways
from homeport.runner.servers.ending import Ending
from homeport.runner.servers.loop import Entrance
from homeport.runner.servers.relay import Relay
from homeport.runner.servers.serving import Serving

PAUSE_S = 0.01
WATCH_S = 0.5
LOOK_S = 0.25  # between two checks that a process of the program is left
TERM_S = 10.0  # the longest time between SIGTERM and SIGKILL
LISTEN = "0A"  # the state in /proc/net/tcp


class PortBusy(Exception):
    """The port belongs to a program outside this container."""


class NobodyListens(Exception):
    """The port did not accept a connection in time."""


class Wait:
    """Waits for the port, from before the script's code runs until a program accepts connections."""

    def __init__(self, web: WebMethod) -> None:
        """Raise `PortBusy` if a program outside the container has the port already."""
        assert web.port is not None
        self.web, self._port = web, web.port
        self._threads = threading.active_count()
        if accepts(self._port):
            raise _busy(self._port)

    @staticmethod
    def of(function: FunctionSpec) -> "list[Wait]":
        """Return a wait for each port of a function."""
        return [Wait(web) for web in function.web if web.port is not None]

    async def listening(self) -> None:
        """Return when the port accepts connections; raise `PortBusy` or `NobodyListens`.

        The loop runs meanwhile, because the program may be a task of the script.
        """
        began = looked = time.monotonic()
        while not accepts(self._port):
            now = time.monotonic()
            if now - looked > LOOK_S:
                looked = now
                if not self._may_come():
                    raise NobodyListens(
                        f"the program has ended before it listened on port {self._port}"
                    )
            if now - began > self.web.startup_timeout_s:
                raise NobodyListens(
                    f"Waited too long for port {self._port} to start accepting connections. "
                    "Make sure the web server is bound to 0.0.0.0 or 127.0.0.1, "
                    f"or adjust `startup_timeout` ({self.web.startup_timeout_s:g} s now)."
                )
            await asyncio.sleep(PAUSE_S)
        if not ours(self._port):
            raise _busy(self._port)

    def _may_come(self) -> bool:
        """Return whether there is a thread, a task or a process that may still listen."""
        tasks = len(asyncio.all_tasks()) - 1  # without the one that waits
        return tasks > 0 or threading.active_count() > self._threads or bool(family.others())


def _busy(port: int) -> PortBusy:
    return PortBusy(f"port {port} is in use by a program outside this container")


async def serve(port: int, serving: Serving) -> bool:
    """Relay requests until asked to end, then finish those inside; False if the program listens no more."""
    relay = relay_to(port, serving)
    entrance = Entrance(serving.door, relay.visit, serving.pulse)
    serving.ready()
    alive = await watch(relay, serving.ending)
    entrance.close()
    await relay.close()
    return alive


def relay_to(port: int, serving: Serving) -> Relay:
    """Return a relay to the program that listens on the port."""
    return Relay(port, serving, lambda: listens(port))


async def watch(relay: Relay, ending: Ending) -> bool:
    """Return True when the container is asked to end; False, and say so, if the program listens no more."""
    end_asked, program_ended = (
        asyncio.ensure_future(event.wait()) for event in (ending.requested, relay.gone)
    )
    while not (end_asked.done() or program_ended.done()):
        await asyncio.wait(
            (end_asked, program_ended), timeout=WATCH_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not relay.listens():
            relay.give_up()
    program_ended.cancel()
    end_asked.cancel()
    if ending.requested.is_set():
        return True
    print(  # noqa: T201 - the container's log
        f"no program listens on port {relay.port} any more", file=sys.stderr
    )
    return False


async def end(grace_s: float, ending: Ending | None = None) -> None:
    """Send SIGTERM to all other processes of the container, and SIGKILL to those that do not end."""
    family.send(signal.SIGTERM)
    deadline = time.monotonic() + min(TERM_S, grace_s)
    while family.others() and time.monotonic() < deadline and not (ending and ending.cut.is_set()):
        await asyncio.sleep(PAUSE_S)
        family.reap()
    family.send(signal.SIGKILL)


def accepts(port: int) -> bool:
    """Return whether a program on this machine accepts connections at the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def listens(port: int) -> bool:
    """Return False if certainly no program listens on the port; True if that cannot be read, for want of descriptors."""
    try:
        return bool(listeners(port))
    except OSError:
        return True


def listeners(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on the port (proc(5), /proc/net/tcp)."""
    local_port = f":{port:04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and fields[1].endswith(local_port):
                    inodes.add(fields[9])
    return inodes


def ours(port: int) -> bool:
    """Return whether a process of this container has the port's socket.

    The descriptors of a program that has given up root cannot be read. So in a network of its own, all sockets are
    the container's.
    """
    sockets = {f"socket:[{inode}]" for inode in listeners(port)}
    if ways.apart():
        return bool(sockets)
    for pid in (os.getpid(), *family.others()):
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in sockets:  # noqa: PTH115 - thousands of them
                        return True
    return False
