"""Starts the control plane, or connects to the one that runs, for every command that needs a server."""

import asyncio
import contextlib
import fcntl
import os
import select
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from homeport.cli import ahead, control, output
from homeport.contract import codec
from homeport.contract.errors import AlreadyExists, ServerUnreachable, StorageError
from homeport.contract.starting import LOCK, Start, Started
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client
    from homeport.contract.api.server import Status

END_S = 15.0  # how long a server may take to end everything
RETRY_S = 0.05
SILENT = ("suspect", "gone")  # states of other machines
LONGEST_RETRY_S = 0.4
PATIENCE_S = END_S + 5.0  # how long to wait for another server that is starting or ending
OTHERS_S = 2.0  # after that, a server that still runs may be serving another session


class _Absent(Exception):
    """No server has this home"""


class _Patience:
    """Waits between two looks at a server that is starting or ending, longer each time."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._end, self._pause_s = time.monotonic() + PATIENCE_S, RETRY_S

    async def wait(self) -> None:
        """Wait until the next look; `ServerUnreachable` once it has taken too long."""
        if time.monotonic() > self._end:
            raise ServerUnreachable(
                f"another server holds {self._home}, and does not answer",
                hint=f"see {self._home / 'server.log'}",
            )
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_RETRY_S)


@asynccontextmanager
async def background(settings: Settings) -> AsyncIterator["Client"]:
    """Yield a client of a background server, which outlives this command; start one if none runs."""
    async with _reached(settings, background=True) as (client, _):
        yield client


@asynccontextmanager
async def borrowed(settings: Settings) -> AsyncIterator["Client"]:
    """Yield a client of the running server; else start one that ends with the block and with this process."""
    async with _reached(settings, background=False) as (client, process):
        try:
            yield client
        finally:
            if process is not None:
                await asyncio.shield(asyncio.create_task(_leave(process, client)))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator["Client"]:
    """Yield a client of the running server; if none runs, its first call raises `ServerUnreachable`."""
    async with _client(settings) as client:
        yield client


async def down(settings: Settings, unreached: list[str] | None = None) -> bool:
    """End the server and everything that it runs; return False if none ran.

    Machines that did not answer, whose containers continue, are added to `unreached`. Raises `ServerUnreachable` for a server
    that has the home, or is on another machine, and does not answer.
    """
    async with _client(settings) as client:
        try:
            status = await _last_status(settings, client)
        except _Absent:
            return False
        if status is not None and unreached is not None:
            unreached += [name for name, state in status.nodes.items() if state in SILENT]
        await client.server.shutdown()
    pid = 0 if status is None else status.pid
    if pid and not settings.server:
        await asyncio.to_thread(_gone, settings, pid)
    return True


async def _last_status(settings: Settings, client: "Client") -> "Status | None":
    """Return the status of the server, or None if it is of another version; `_Absent` if there is no server.

    One that is starting or ending has the home's lock, and does not answer: then try again.
    """
    from homeport.client import OtherVersion, ServerSilent

    patience = _Patience(settings)
    while True:
        try:
            return await client.server.status()
        except OtherVersion:
            return None  # end it all the same
        except ServerSilent:
            raise
        except ServerUnreachable:
            if settings.server:
                raise
            if not _is_held(settings.home):
                raise _Absent from None
        await patience.wait()


def _is_held(home: Path) -> bool:
    """Return whether a server has a home's lock (control/standby.py); in the home of a machine that has joined, its agent has it."""
    if (home / "cluster/joined.json").exists():
        return False
    with contextlib.suppress(OSError), (home / LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _gone(settings: Settings, pid: int) -> None:
    """Wait until a server that was asked to end has ended.

    Its pidfd shows its end at once, also while it is a zombie (man 2 pidfd_open).
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([handle], [], [], END_S)
    finally:
        os.close(handle)
    if not ended:
        raise ServerUnreachable(
            f"the server (pid {pid}) was asked to end, and has not within {END_S:g} s",
            hint=f"{settings.home / 'server.log'} may say what it waits for",
        )


@asynccontextmanager
async def _reached(
    settings: Settings, *, background: bool
) -> AsyncIterator[tuple["Client", "subprocess.Popen[str] | None"]]:
    """Yield a client of a server that is ready, and its process; None for the process if it ran already.

    A server that is ending does not answer, or still holds the home for a moment: then try again.
    """
    process = await asyncio.to_thread(_started, settings, background=background)
    async with _client(settings) as client:
        output.prepare()
        patience = _Patience(settings)
        while not await _ready(settings, client, process, background=background):
            await patience.wait()
            process = await asyncio.to_thread(_started, settings, background=background)
        yield client, process


async def _ready(
    settings: Settings,
    client: "Client",
    process: "subprocess.Popen[str] | None",
    *,
    background: bool,
) -> bool:
    if process is not None:
        return await _greeted(settings, process, background=background)
    try:
        status = await client.server.status()
        if background and not status.kept:
            await client.server.keep()
    except ServerUnreachable:
        if settings.server:
            raise
        return False
    _compare(settings, status)
    return True


def _client(settings: Settings) -> "Client":
    from homeport.client import Client  # it is imported while the started server starts too

    with contextlib.suppress(FileNotFoundError):
        owner = settings.socket_dir.lstat().st_uid
        if settings.socket_dir != settings.run_dir and owner != os.getuid():
            # Below /tmp: another user could listen there, and would get secrets.
            raise StorageError(f"{settings.socket_dir} belongs to another user", hint="remove it")
    return Client(settings)


async def _status(client: "Client") -> "Status | None":
    try:
        return await client.server.status()
    except ServerUnreachable:
        return None


def _compare(settings: Settings, status: "Status") -> None:
    """Warn if the running server has other settings than the command asks for."""
    if settings.server:
        return  # a remote server has its own settings
    for key in (key for key in settings.given if key in status.settings):
        own, running_value = getattr(settings, key), status.settings[key]
        if own != running_value and (own != 0 or not key.endswith("_port")):  # 0 is any port
            name = key.replace("_", "-")
            output.warn(
                f"the server that runs has another {name}, {running_value}, and keeps it: {own} is for the "
                "next one; `homeport down` ends this one, and `homeport up` brings every app back"
            )


def _started(settings: Settings, *, background: bool) -> "subprocess.Popen[str] | None":
    """Start the control plane's process; return None if a server listens already.

    Call it before the slow imports of the command, so that both processes import at the same time.
    """
    if settings.server or control.is_listening(settings):  # a remote server cannot be started
        ahead.take_server(None)
        return None
    process = ahead.take_server(settings) or control.start(settings)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(codec.line(Start(settings=settings.sent(), kept=background)).decode())
        process.stdin.flush()
    return process


async def _greeted(
    settings: Settings, process: "subprocess.Popen[str]", *, background: bool
) -> bool:
    """Wait until the server is ready; return False if another server has the home."""
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        answer = _read(await asyncio.to_thread(process.stdout.readline))
        if answer.error is not None:
            raise answer.error.failure()
        if answer.ready is None:
            raise ServerUnreachable(
                "the server ended before it was ready", hint=f"see {settings.home / 'server.log'}"
            )
    except AlreadyExists:
        _end(process)
        return False
    except BaseException:
        process.terminate()
        _end(process)
        raise
    if background:
        process.stdin.close()
        process.stdout.close()
        process.returncode = 0  # it continues without this command: no warning is needed
    return True


def _read(line: str) -> Started:
    try:
        return codec.loads(Started, line) if line else Started()
    except (ValueError, TypeError, KeyError):
        raise ServerUnreachable(
            "the server that was started is another version of homeport: its answer cannot be read",
            hint="run it again; while homeport is being reinstalled, two versions can meet",
        ) from None


async def _leave(process: "subprocess.Popen[str]", client: "Client") -> None:
    """Wait for the server's end, unless another command's session keeps it."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    for _ in range(int(OTHERS_S / RETRY_S)):
        if process.poll() is not None:
            break
        await asyncio.sleep(RETRY_S)
    else:
        status = await _status(client)
        if status is not None and any(app.state == "serving" for app in status.apps):
            output.say("the server stays for another session")
            process.returncode = 0  # it continues without this command: no warning is needed
    await asyncio.to_thread(_end, process)


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
