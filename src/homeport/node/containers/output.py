"""Reads the containers' output as lines, in a thread, and passes it to the event loop in batches.

A container's init writes to a pipe of which it has both ends, so that it continues when the control plane has
ended (runner/drain.py). The thread sleeps while no container prints. A pass over all pipes reads a limited
number of lines; if containers print more, the pipes fill up, and init drops and counts lines.
"""

import asyncio
import collections
import contextlib
import fcntl
import logging
import os
import re
import select
import stat
import threading
import time
from collections.abc import Callable

from homeport.contract.output import MARK, REQUEST, REQUEST_END, read_dropped
from homeport.contract.sizes import MIB

PAUSE_S = 0.05  # between two passes
PASS_LINES = 1_000  # of all containers together: 20,000 a second
READ_BYTES = 64 * 1024
PIPE_BYTES = 256 * 1024
MAX_LINE = 16 * 1024
#: Bytes that are read after its end: no pipe of a user holds more (man 7 pipe, pipe-max-size), and no terminal.
MAX_LAST = MIB
REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,128}")  # an X-Request-Id, as the ingress makes them
WHY = "they came faster than a container may print"
PATIENCE_S = 1.0  # a piece without a newline is a line after that
START, END = REQUEST.encode(), REQUEST_END.encode()

log = logging.getLogger(__name__)

Line = tuple[str, str, str]  # its text, the id of its request, and its source
Heard = Callable[[str, str, str], None]


class Output:
    """One container's output, as lines."""

    def __init__(self, descriptor: int, on_line: Heard) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.on_line = on_line
        self.done: asyncio.Future[None] | None = None  # set while a caller waits for its end
        self._partial = b""
        self._read_bytes = 0
        self._since = 0.0  # when the last piece came

    @property
    def wait_s(self) -> float | None:
        """Return the seconds until a line is complete: 0 if there are lines already; None if there is nothing."""
        if b"\n" in self._partial or len(self._partial) > MAX_LINE:
            return 0.0
        return PATIENCE_S if self._partial else None

    def read(self) -> bool:
        """Read the pipe, unless there are lines already; return False after the pipe's end."""
        if self.wait_s == 0.0:
            return True
        try:
            data = os.read(self.descriptor, READ_BYTES)
        except BlockingIOError:
            return True
        if data:
            self._partial += data
            self._read_bytes += len(data)
            self._since = time.monotonic()
        return bool(data)

    def lines(self, most: int, *, last: bool = False) -> list[Line]:
        """Return at most `most` lines; a piece without a newline counts after a while, or with `last`."""
        *whole, incomplete = self._partial.split(b"\n", most)
        if not whole and incomplete and (last or self._is_late() or len(incomplete) > MAX_LINE):
            whole, incomplete = [incomplete[:MAX_LINE]], incomplete[MAX_LINE:]
        self._partial = incomplete
        return [line for text in whole for line in _pieces(text)]

    def everything(self) -> list[Line]:
        """Return everything that has been written so far.

        A process that the container has left behind may write without a pause.
        """
        lines_found: list[Line] = []
        most, size = self._read_bytes + MAX_LAST, -1
        while size != 0:
            if self._read_bytes < most:
                self.read()
            size = len(self._partial)
            lines_found += self.lines(PASS_LINES, last=b"\n" not in self._partial)
        return lines_found

    def _is_late(self) -> bool:
        return time.monotonic() - self._since > PATIENCE_S


def pipe() -> tuple[int, int]:
    """Make a pipe for a container's output, as large as allowed: the reading end, the writing end."""
    ends = os.pipe()
    with contextlib.suppress(OSError):  # the kernel limits the pages of all pipes of a user
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return ends


def of_init(leader: int) -> int:
    """Open the pipe of a container that an earlier server started, by its init's standard output."""
    descriptor = os.open(f"/proc/{leader}/fd/1", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, f"the output of process {leader} is not a pipe")
    return descriptor


class Outputs:
    """The thread that reads all outputs."""

    def __init__(self) -> None:
        self._news: collections.deque[Output] = collections.deque()
        self._all: dict[int, Output] = {}  # the thread's own, by descriptor
        self._hurry = threading.Event()  # set if a caller waits for the end of an output
        self._over = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread; lines are passed to the event loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="container output", daemon=True)
        self._thread.start()

    def follow(self, descriptor: int, on_line: Heard) -> Output:
        """Read a pipe from now on, and call `on_line` for each line; the thread closes the pipe."""
        output = Output(descriptor, on_line)
        self._news.append(output)
        os.eventfd_write(self._wake, 1)
        return output

    async def finish(self, output: Output) -> None:
        """Wait until everything that was written so far was passed on; then stop reading it."""
        if output.done is None:
            output.done = self._loop.create_future()
            self._hurry.set()
            os.eventfd_write(self._wake, 1)
        await asyncio.shield(output.done)

    def close(self) -> None:
        """Stop the thread."""
        if self._thread is None:
            return
        self._over = True
        self._hurry.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._thread = None
        for output in (*self._all.values(), *self._news):
            os.close(output.descriptor)
        self._poll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._over:
            waits = [wait_s for o in self._all.values() if (wait_s := o.wait_s) is not None]
            ready = {descriptor for descriptor, _ in self._poll.poll(min(waits, default=None))}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            self._welcome()
            self._hurry.clear()
            batch = self._pass(ready)
            ended = [output for output in self._all.values() if output.done is not None]
            for output in ended:
                batch.append((output, output.everything()))
                self._forget(output)
            if batch:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(_tell, batch, ended)
            self._hurry.wait(PAUSE_S)

    def _welcome(self) -> None:
        while self._news:
            output = self._news.popleft()
            self._all[output.descriptor] = output
            self._poll.register(output.descriptor, select.EPOLLIN)

    def _pass(self, ready: set[int]) -> list[tuple[Output, list[Line]]]:
        """Return some lines of each output that has any; the order changes, so that each comes first in turn."""
        batch, remaining = [], PASS_LINES
        for descriptor, output in list(self._all.items()):
            if descriptor in ready and not output.read():
                self._poll.unregister(descriptor)
            if remaining and output.wait_s is not None and (lines := output.lines(remaining)):
                remaining -= min(len(lines), remaining)
                batch.append((output, lines))
                self._all[descriptor] = self._all.pop(descriptor)
        return batch

    def _forget(self, output: Output) -> None:
        del self._all[output.descriptor]
        os.close(output.descriptor)  # epoll forgets it


def _tell(batch: list[tuple[Output, list[Line]]], ended: list[Output]) -> None:
    for output, lines in batch:
        try:
            for line in lines:
                output.on_line(*line)
        except Exception:  # neither other containers nor `finish` depend on these lines
            log.exception("lines that a container printed are lost")
    for output in ended:
        if output.done is not None and not output.done.done():
            output.done.set_result(None)


def _pieces(line: bytes) -> list[Line]:
    """Return a line of the pipe, in pieces of limited length."""
    if (missing := read_dropped(line)) is not None:
        lines, size = missing
        return [(f"{lines} lines ({size} bytes) are missing here: {WHY}", "", "system")]
    request = ""
    if line.startswith(START) and END in line:
        tag, _, text = line.partition(END)
        if REQUEST_ID.fullmatch(tag[1:]):
            request, line = tag[1:].decode(), text
    if MARK in line:
        line = line.replace(MARK * 2, MARK)
    pieces = [line[at : at + MAX_LINE] for at in range(0, max(len(line), 1), MAX_LINE)]
    return [(_text(piece), request, "output") for piece in pieces]


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")
