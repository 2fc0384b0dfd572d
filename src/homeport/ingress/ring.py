"""Reads the log of requests from the rings in the memory of HAProxy's processes.

A ring has two connections to its process's Runtime API. Over the first one the process writes each line at once, and
it is read once a second or more often: unread lines wait in the socket and then in the ring. While no request ends, nothing
is read (`Rings.stirred`). A process that retires ends when its last connection has ended, so the second one asks whether
these two are the last.
"""

import asyncio
import contextlib
import errno
import logging
import re
import socket
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

PIECE_BYTES = 256 * 1024
#: A socket holds about so much. If as much was read, more is waiting.
FULL_BYTES = 100 * 1024
OWN_JOBS = 2  # of a process that has no request any more: the two connections
FOLLOW = b"show events requests -w\n"
TALK = b"prompt\n"
ASK = b"show info\n"
_JOBS = re.compile(rb"^Jobs: (\d+)$", re.MULTILINE)

log = logging.getLogger(__name__)


class Ring:
    """The ring of one process."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self.already_read: frozenset[str] = frozenset()  # requests that were read before
        self._lines: socket.socket | None = None
        self._talk: socket.socket | None = None
        self._rest = b""
        self._asked = False  # an answer is to come
        self.retired = False
        self.gone = False  # the process has ended, and everything is read

    def read(self) -> tuple[list[str], bool]:
        """Return the lines that were written since the last call, and whether to read again at once. Never waits."""
        if self._lines is None:
            if self.retired:
                self.gone = True
                return [], False
            self._connect()
        data, ended = _received(self._lines)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if ended:
            self._end()
        elif self.retired:
            self._look(data)
        texts = [line.decode("ascii", "replace") for line in lines]
        again = len(data) >= FULL_BYTES or self._asked
        return (self._fresh(texts) if self.already_read else texts), again

    def retire(self) -> None:
        """Prepare for the process's end. Call it before the process stops to accept connections."""
        self.retired = True
        if self._lines is None:
            self._connect()
        with contextlib.suppress(OSError):
            self._talk = _connected(self._control)
            self._talk.send(TALK)

    @property
    def descriptor(self) -> int | None:
        """The descriptor at which its lines arrive; None if it is not connected."""
        return None if self._lines is None else self._lines.fileno()

    def close(self) -> None:
        """Read no more."""
        for connection in (self._lines, self._talk):
            if connection is not None:
                connection.close()
        self._lines = self._talk = None
        self._asked = False

    def _connect(self) -> None:
        with contextlib.suppress(OSError):  # the process has ended, or has not begun: try it again
            self._lines = _connected(self._control)
            self._lines.send(FOLLOW)

    def _end(self) -> None:
        """The process, or its patience with a silent connection, has ended."""
        self.close()
        self._rest = b""
        self.gone = self.retired

    def _look(self, data: bytes) -> None:
        """Leave a retired process that has no request any more, so that it can end."""
        answer, ended = _received(self._talk)
        jobs = _JOBS.findall(answer)
        # Without the second connection it cannot be asked, and its last lines are lost.
        if self._talk is None or ended or (jobs and int(jobs[-1]) <= OWN_JOBS and not data):
            self.close()
            self.gone = True
        elif jobs:
            self._asked = False
        elif not self._asked:
            self._asked = True
            with contextlib.suppress(OSError):
                self._talk.send(ASK)

    def _fresh(self, lines: list[str]) -> list[str]:
        """Leave out the lines that were read before; they end at the first line that was not."""
        for number, line in enumerate(lines):
            words = line.split(" ", 3)
            if len(words) == 4 and words[2] not in self.already_read:
                self.already_read = frozenset()
                return lines[number:]
        return []


class Rings:
    """The rings of all processes."""

    def __init__(self) -> None:
        self.seen: Callable[[], Collection[str]] = tuple  # ids that an earlier server has read
        self._rings: list[Ring] = []
        self._adopted: list[Ring] = []
        self._stirs = asyncio.Event()

    def stir(self) -> None:
        """Let `stirred` return."""
        self._stirs.set()

    async def stirred(self, longest_s: float) -> None:
        """Wait until a process has written a line or ends, until `stir`, or so long.

        Return at once if one is not connected. `read` must not be called meanwhile.
        """
        self._stirs.clear()
        descriptors = [ring.descriptor for ring in self._rings]
        if None in descriptors:
            return
        loop = asyncio.get_running_loop()
        watched: list[int] = []
        try:
            for descriptor in filter(None, descriptors):
                loop.add_reader(descriptor, self._stirs.set)
                watched.append(descriptor)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest_s):
                    await self._stirs.wait()
        finally:
            for descriptor in watched:
                loop.remove_reader(descriptor)

    def follow(self, control: Path) -> None:
        """Read another process's ring, too, from its begin."""
        self._rings.append(Ring(control))
        self.stir()

    def adopt(self, controls: Iterable[Path]) -> None:
        """Read the rings of an earlier server's processes."""
        self._adopted = [Ring(control) for control in controls]
        self._rings += self._adopted

    def retire(self) -> None:
        """All processes so far are about to end."""
        if self._adopted:
            known_ids = frozenset(self.seen())
            for ring in self._adopted:
                ring.already_read = known_ids
            self._adopted = []
        for ring in self._rings:
            if not ring.retired:
                ring.retire()

    def read(self) -> tuple[list[str], bool]:
        """Return the new lines of all processes, and whether to read again at once. Never waits."""
        lines: list[str] = []
        is_full = False
        for ring in self._rings:
            new_lines, more = ring.read()
            lines += new_lines
            is_full = is_full or more
        self._rings = [ring for ring in self._rings if not ring.gone]
        return lines, is_full

    @property
    def is_retiring(self) -> bool:
        """True while a process is about to end."""
        return any(ring.retired for ring in self._rings)

    def close(self) -> None:
        """Read no more."""
        for ring in self._rings:
            ring.close()
        self._rings.clear()


def _connected(control: Path) -> socket.socket:
    """Connect without waiting; `OSError` if that is impossible."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(str(control))
    except OSError:
        connection.close()
        raise
    return connection


def _received(connection: socket.socket | None) -> tuple[bytes, bool]:
    """Return the data that has arrived, and whether the connection has ended."""
    pieces = []
    if connection is None:
        return b"", False
    try:
        while piece := connection.recv(PIECE_BYTES):
            pieces.append(piece)
    except BlockingIOError:
        return b"".join(pieces), False
    except OSError as error:
        if error.errno != errno.ECONNRESET:
            log.warning("HAProxy's log of requests cannot be read: %s", error)
    return b"".join(pieces), True
