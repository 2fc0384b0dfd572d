"""Runs programs in containers that run already, for their user (homeport/cell/enter.py does the work)."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from homeport.cell.description import Cell
from homeport.contract import codec
from homeport.contract.container import CALLS, Launch
from homeport.contract.errors import StartError
from homeport.contract.image import HOME
from homeport.contract.programs import ERR, OUT, Order
from homeport.node.containers import output
from homeport.node.containers.shared import Shared
from homeport.node.held import Held
from homeport.node.launch import environ_for
from homeport.undo import unbroken

READ_BYTES = 64 * 1024
HANG_UP_S = 2.0  # a program whose terminal is gone may take that long to end


class Entered:
    """A program in a container, with its terminal or its three pipes."""

    def __init__(self, control: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        self._loop = asyncio.get_running_loop()
        self._control, self._process = control, process
        control.setblocking(False)
        self._rest = b""
        self._master = -1
        self._input = -1  # where its input goes: the terminal's, or a pipe's
        self._outputs: dict[int, int] = {}  # the descriptors of OUT and ERR
        self._output: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(maxsize=4)
        self._readers: set[asyncio.Task[None]] = set()
        self._code: asyncio.Future[int] = self._loop.create_future()
        self._listening: asyncio.Task[None] | None = None
        self._waits: set[asyncio.Event] = set()  # of those that wait for a descriptor
        self._has_ended = False

    async def start(self, pipes: Mapping[int, int]) -> None:
        """Wait until it runs. `pipes` are our ends of its streams 0, 1 and 2, without a terminal."""
        try:
            answer, descriptors = await self._receive()
        except BaseException:
            await self.give_up(pipes.values())
            raise
        if "started" not in answer:
            await self.give_up((*pipes.values(), *descriptors))
            raise StartError(f"no program can be started in the container: {answer.get('error')}")
        if descriptors:
            self._input = self._master = descriptors[0]
            self._outputs = {OUT: descriptors[0]}
        else:
            self._input = pipes[0]
            self._outputs = {OUT: pipes[1], ERR: pipes[2]}
        for descriptor in (self._input, *self._outputs.values()):
            os.set_blocking(descriptor, False)
        self._listening = asyncio.create_task(self._listen())

    async def give_up(self, descriptors: Iterable[int]) -> None:
        """Close everything: without its other end of the socket, the process that entered kills the program and ends."""
        self._control.close()
        for descriptor in descriptors:
            os.close(descriptor)
        await asyncio.to_thread(self._process.wait)

    async def read(self) -> tuple[int, bytes]:
        """Return what it has written, and where; no bytes after its end."""
        return await self._output.get()

    async def write(self, data: bytes) -> None:
        """Give it input; without bytes its input ends."""
        if self._input < 0:
            return
        if not data:
            if self._master < 0:
                os.close(self._input)
                self._input = -1
            return
        view = memoryview(data)
        with contextlib.suppress(OSError):  # nobody reads it any more
            while view and self._input >= 0:
                try:
                    view = view[os.write(self._input, view) :]
                except BlockingIOError:
                    await self._ready(self._input, self._loop.add_writer, self._loop.remove_writer)

    async def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal."""
        if self._master >= 0:
            size = struct.pack("4H", rows, columns, 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"signal": number}).encode() + b"\n")

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        """End it: it loses its terminal, and is killed if that does not end it."""
        if not self._code.done():
            await self.signal(signal.SIGHUP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HANG_UP_S):
                    await asyncio.shield(self._code)
        for task in (*self._readers, *([self._listening] if self._listening else [])):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        descriptors = {self._input, self._master, *self._outputs.values()} - {-1}
        self._input = self._master = -1
        self._outputs = {}
        await self.give_up(descriptors)

    async def _listen(self) -> None:
        """Read its output until its end, then what is left of it."""
        self._readers = {
            asyncio.create_task(self._copy(where, descriptor))
            for where, descriptor in self._outputs.items()
        }
        ending, _ = await self._receive()
        self._has_ended = True
        for wait in self._waits:
            wait.set()
        await asyncio.wait(self._readers)
        if not self._code.done():
            self._code.set_result(int(ending.get("code", 255)))
        await self._output.put((OUT, b""))

    async def _copy(self, where: int, descriptor: int) -> None:
        """Read a stream until its end, or until it has nothing more after the program's end.

        A process that the program has left behind may keep the stream open, and write without a pause.
        """
        left_bytes = output.MAX_LAST
        while left_bytes > 0:
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                if self._has_ended:
                    return
                await self._ready(descriptor, self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError:  # EIO: the terminal's other end is closed
                return
            if not data:
                return
            if self._has_ended:
                left_bytes -= len(data)
            await self._output.put((where, data))

    async def _receive(self) -> "tuple[dict[str, Any], list[int]]":
        """Return one line from the process that entered, and its descriptors."""
        received: list[int] = []
        while b"\n" not in self._rest:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, READ_BYTES, 1)
            except BlockingIOError:
                control = self._control.fileno()
                await self._ready(control, self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError:
                data, descriptors = b"", []
            received += descriptors
            if not data:
                return {"error": "the process that entered it has ended"}, received
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line), received

    async def _ready(
        self, descriptor: int, add: Callable[..., object], remove: Callable[[int], object]
    ) -> None:
        """Wait until a descriptor can be read, or written, or until the program has ended."""
        woken = asyncio.Event()
        self._waits.add(woken)
        add(descriptor, woken.set)
        try:
            await woken.wait()
        finally:
            self._waits.discard(woken)
            remove(descriptor)


async def run(
    shared: Shared, launch: Launch, runner: Held, order: Order, secrets: Mapping[str, str]
) -> Entered:
    """Run a program beside a container's runner; `StartError` if that cannot be.

    It has the container's variables, limits and rights. `secrets` are the function's.
    """
    isolated = await asyncio.to_thread(_is_isolated, runner.pid)
    image = shared.environments.of(launch.function.image)
    environ = environ_for(launch, secrets, os.environ, image.python, shared.lib, image.environ)
    environ |= shared.trusted.variables(image, environ)
    calls, cwd, ids = launch.calls, launch.order.source, None
    if isolated:
        if shared.cells is not None:
            environ, ids = shared.cells.environ(environ, image), shared.cells.ids
        calls, cwd = CALLS if calls else "", HOME
    if calls:  # what the runner knows without variables
        environ["HOMEPORT_CALLS_SOCKET"] = calls
        environ["HOMEPORT_CALLS_APP"] = launch.order.pool.app
        environ["HOMEPORT_CALLS_SCOPE"] = launch.order.scope
        environ["HOMEPORT_CALLS_KEY"] = launch.order.key
    order_to_enter = {
        "pid": runner.pid,
        "argv": list(order.argv),
        "environ": {**environ, **order.environ},
        "cwd": cwd,
        "terminal": order.terminal,
        "cell": codec.encode(Cell(ids=ids)) if isolated else None,
        "cgroup": launch.cgroup,
        "cores": list(launch.cores),
    }
    entered, pipes = await _entered(order_to_enter, runner)
    await entered.start(pipes)
    return entered


async def _entered(order: Mapping[str, object], runner: Held) -> tuple[Entered, dict[int, int]]:
    """Start the process that enters; with its thread's end, also if the user gives up meanwhile."""
    ours, theirs = socket.socketpair()
    with theirs:
        starting = asyncio.create_task(asyncio.to_thread(_enter, order, runner.pidfd, theirs))
        try:
            await unbroken(asyncio.wait([starting]))
        except asyncio.CancelledError:
            if starting.exception() is None:
                process, pipes = starting.result()
                await Entered(ours, process).give_up(pipes.values())
            ours.close()
            raise
    try:
        process, pipes = starting.result()
    except BaseException as error:
        ours.close()
        if isinstance(error, OSError):
            raise StartError(f"no program can be started: {error.strerror}") from None
        raise
    return Entered(ours, process), pipes


def _is_isolated(pid: int) -> bool:
    """Return whether a process is in a cell; `StartError` if it has ended."""
    try:
        theirs, own = Path(f"/proc/{pid}/ns/user").stat(), Path("/proc/self/ns/user").stat()
    except OSError as error:
        raise StartError(f"the container cannot be entered: {error.strerror}") from None
    return theirs.st_ino != own.st_ino


def _enter(
    order: Mapping[str, object], runner: int, control: socket.socket
) -> "tuple[subprocess.Popen[bytes], dict[int, int]]":
    """Start the process that enters; return it, and without a terminal our ends of its streams."""
    pipes: dict[int, int] = {}
    streams = [subprocess.DEVNULL] * 3
    with contextlib.ExitStack() as handed_over, contextlib.ExitStack() as unless_started:
        order_file = os.memfd_create("order")
        handed_over.callback(os.close, order_file)
        with os.fdopen(os.dup(order_file), "wb") as file:
            file.write(json.dumps(order).encode())
        if order["terminal"] is None:
            for stream in (0, 1, 2):
                reader, writer = os.pipe()
                pipes[stream], streams[stream] = (
                    (writer, reader) if stream == 0 else (reader, writer)
                )
                handed_over.callback(os.close, streams[stream])
                unless_started.callback(os.close, pipes[stream])
        passed = (control.fileno(), runner, order_file)
        process = subprocess.Popen(
            [sys.executable, "-E", "-P", "-m", "homeport.cell.enter", *map(str, passed)],
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            pass_fds=passed,
            cwd="/",
            start_new_session=True,
        )
        unless_started.pop_all()
    return process, pipes
