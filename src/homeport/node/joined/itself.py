"""What an agent says of itself: the last lines of its own log, and how its machine is.

`served` answers with it when the control plane asks: for `homeport node logs`, and for what is wrong with a machine.
"""

import asyncio
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Protocol

from homeport.link import authority, reaching, volumes
from homeport.link.calls import About

MOST_LINES = 1000  # that are kept
LINE_CHARS = 2000  # of one line
AT_ONCE = 20  # lines in one piece of an answer


class OwnLog(logging.Handler):
    """The last lines of this process's log."""

    def __init__(self, most_lines: int = MOST_LINES) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=most_lines)
        self._count = 0  # of all lines
        self._followers: set[Callable[[], None]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, and tell those who follow; `logging` calls this in any thread, one at a time."""
        try:
            lines = self.format(record).splitlines()
        except Exception:
            self.handleError(record)
            return
        self._lines.extend(line[:LINE_CHARS] for line in lines)
        self._count += len(lines)
        for tell in tuple(self._followers):
            tell()

    async def read(self, tail: int, *, follow: bool, say: Callable[[str], None]) -> None:
        """Say the last `tail` lines; with `follow` those that come too, until this is cancelled."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(news.set)

        lines, seen = self._since(None)
        _say(lines[max(0, len(lines) - tail) :], say)
        if not follow:
            return
        self._followers.add(tell)
        try:
            while True:
                lines, seen = self._since(seen)
                _say(lines, say)
                if not lines:
                    await news.wait()
                news.clear()
        finally:
            self._followers.discard(tell)

    def _since(self, seen: int | None) -> tuple[list[str], int]:
        """Return the lines after the first `seen` ones that are still kept, and how many there were in all."""
        self.acquire()
        try:
            new = len(self._lines) if seen is None else min(self._count - seen, len(self._lines))
            return list(self._lines)[len(self._lines) - new :], self._count
        finally:
            self.release()


class Port(Protocol):
    """The machine's HAProxy."""

    @property
    def entrance(self) -> tuple[tuple[int, ...], Mapping[int, str]]:
        """The ports where visitors come in, and why others cannot be opened."""
        ...

    @property
    def way(self) -> tuple[str, int] | None:
        """The address of the control plane to which containers are led; None: to nowhere."""
        ...


class Itself:
    """The facts about one agent and its machine."""

    def __init__(
        self,
        home: Path,
        pair: Path,
        log: OwnLog,
        shared_volumes: Path | None = None,
        port: Port | None = None,
    ) -> None:
        """`pair`: the file of the agent's key and certificate. `port` is a `PeerPort`."""
        self._home, self._pair, self.log = home, pair, log
        self._shared_volumes, self._port = shared_volumes, port
        self._looking: asyncio.Future[tuple[int, float, str]] | None = None

    async def about(self) -> About:
        """Look at the machine."""
        # One look at a time: a file system of another machine may hang, and would take one thread after the other.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(asyncio.to_thread(self._look))
        free_bytes, until, shared_volumes = await asyncio.shield(self._looking)
        ports, trouble = self._port.entrance if self._port else ((), {})
        way = self._port.way if self._port else None
        cannot_call = "" if way is None else await reaching.unreached(*way)
        return About(
            now=time.time(),
            homeport=metadata.version("homeport"),
            free_bytes=free_bytes,
            certificate_until=until,
            shared_volumes=shared_volumes,
            entrance=ports,
            cannot_call=cannot_call,
            no_entrance="; ".join(f"port {port}: {why}" for port, why in trouble.items()),
        )

    def _look(self) -> tuple[int, float, str]:
        pem = authority.certificate_of(self._pair.read_bytes())
        shared = "" if self._shared_volumes is None else volumes.reported(self._shared_volumes)
        free_bytes = shutil.disk_usage(self._home).free
        return free_bytes, authority.valid_until(pem).timestamp(), shared


def _say(lines: list[str], say: Callable[[str], None]) -> None:
    """Say lines, several in one piece: each piece is a message."""
    for at in range(0, len(lines), AT_ONCE):
        piece = ""
        for line in lines[at : at + AT_ONCE]:
            if piece and len(piece) + len(line) >= LINE_CHARS:
                say(piece)
                piece = ""
            piece += f"{line}\n"
        say(piece)
