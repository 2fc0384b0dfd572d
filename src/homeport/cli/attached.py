"""The user's terminal, or pipes, at a program in a container: `container exec` and `shell`."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from homeport.contract.programs import ERR, Order

if TYPE_CHECKING:
    from homeport.client.programs import Running

READ_BYTES = 32 * 1024
FORCED = 3  # that many times Ctrl-C, and the command ends
#: Variables of this terminal that programs on it read.
KEPT = ("TERM", "COLORTERM", "NO_COLOR")
BASH = "command -v bash >/dev/null && exec bash || exec sh"


def has_terminal(wanted: bool | None) -> bool:
    """Return whether the program gets a terminal: as wanted, else where this command has one."""
    return sys.stdin.isatty() and sys.stdout.isatty() if wanted is None else wanted


def order(argv: list[str], *, terminal: bool) -> Order:
    """Return what to run; without words a shell."""
    environ = {name: os.environ[name] for name in KEPT if terminal and name in os.environ}
    return Order(
        argv=tuple(argv or ("/bin/sh", "-c", BASH)),
        terminal=_size() if terminal else None,
        environ=environ,
    )


async def attach(running: "Running", *, terminal: bool) -> int:
    """Carry input and output until the program ends; return its exit code."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def send(work: "Running", number: int = 0) -> None:
        message = work.signal(number) if number else work.resize(*_size())
        task = loop.create_task(_quietly(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    interrupts = 0

    def interrupted() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts >= FORCED:
            copying.cancel()
        send(running, signal.SIGINT)

    feeding = loop.create_task(_feed(running))
    copying = loop.create_task(_copy(running))
    try:
        with _raw() if terminal and sys.stdin.isatty() else contextlib.nullcontext():
            if terminal:
                loop.add_signal_handler(signal.SIGWINCH, send, running)
            loop.add_signal_handler(signal.SIGINT, interrupted)
            try:
                return await copying
            except asyncio.CancelledError:
                return 130
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGWINCH)
        for task in (feeding, copying, *tasks):
            task.cancel()
        await asyncio.wait({feeding, copying, *tasks})


async def _quietly(work: "asyncio.Future[None] | object") -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        await work  # type: ignore[misc]


async def _copy(running: "Running") -> int:
    """Write the program's output; return its exit code."""
    async for where, data in running.outputs():
        if not where:
            return int(data)
        stream = sys.stderr if where == ERR else sys.stdout
        with contextlib.suppress(BrokenPipeError):  # `| head` has had enough
            stream.buffer.write(data)
            stream.buffer.flush()
    return 255


async def _feed(running: "Running") -> None:
    """Give it what this command's standard input has."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        while data := await _read(0):
            await running.write(data)
        await running.write(b"")


async def _read(descriptor: int) -> bytes:
    """Read what there is; the descriptor stays as it is, because the shell has it too."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except OSError:  # a file, or /dev/null: it is always ready (man 2 epoll_ctl, EPERM)
        ready.set()
    else:
        try:
            await ready.wait()
        finally:
            loop.remove_reader(descriptor)
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError:  # closed, or the terminal has hung up
        return b""


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Hand every key to the program, Ctrl-C too; at the end the terminal is as before."""
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSANOW)  # the input up to now is not lost
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _size() -> tuple[int, int]:
    """Return the rows and columns of this terminal."""
    size = shutil.get_terminal_size()
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(0)
    return max(size.lines, 1), max(size.columns, 1)
