"""Keeps the containers' output: writes it to a file for each app, and passes it to followers.

A file `logs/<app>.jsonl` has one LogLine a line; other environments than `main` have a folder each. At half the cap it becomes `<app>.jsonl.1` and a new file
begins, so an app never takes more than the cap. A thread writes the files, and `tail` reads them in threads
too: the event loop never waits for the disk. Lines that cannot be written are counted, and the log says so.
"""

import asyncio
import contextlib
import queue
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from homeport.contract.container import LogLine
from homeport.contract.scope import Scope
from homeport.state import logfiles
from homeport.state.logfiles import AppKey, Files, Part

BACKLOG = 10_000  # lines that wait for a slow follower; further lines are lost for it
QUEUED = 50_000  # lines that wait for a slow disk; further lines are lost
BATCH = 1_000
LAGS = "the reader was too slow"

Wanted = Callable[[LogLine], bool]


class Logs:
    """Every app's log."""

    def __init__(self, root: Path, cap_bytes: int) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._files = Files(root, max(cap_bytes // 2, 64 * 1024))
        self._queue: queue.SimpleQueue[LogLine | _Mark | Scope | None] = queue.SimpleQueue()
        self._lost: Counter[AppKey] = Counter()  # app -> lines lost before they reached the thread
        self._followers: set[_Follower] = set()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def write(self, line: LogLine) -> None:
        """Queue a line for the file and pass it to the followers; a slow or full disk only loses the line."""
        if self._queue.qsize() >= QUEUED:
            self._lost[line.within, line.app] += 1
        else:
            if missing := self._lost.pop((line.within, line.app), 0):
                self._queue.put(logfiles.missing(line, missing, "the disk was too slow"))
            self._queue.put(line)
        for follower in self._followers:
            follower.see(line)

    async def tail(
        self,
        scope: Scope,
        app: str,
        count: int,
        wants: Wanted,
        only: Mapping[str, str] | None = None,
        since: float = 0.0,
    ) -> list[bytes]:
        """Return the last `count` wanted lines, the oldest first: each as JSON, with its newline.

        Only lines that were written before the call. `only` are fields that a wanted line must have, and
        `since` is the earliest time in seconds since the epoch: lines that do not fit are not decoded.
        """
        mark = _Mark((scope, app), asyncio.get_running_loop())
        self._queue.put(mark)
        parts = await mark.passed
        return await asyncio.to_thread(logfiles.last, parts, count, wants, only or {}, since)

    @contextmanager
    def following(self, scope: Scope, wants: Wanted) -> Iterator[AsyncIterator[LogLine]]:
        """Yield an iterator over the wanted lines of an environment that are written from now on."""
        follower = _Follower(lambda line: line.within == scope and wants(line))
        self._followers.add(follower)
        try:
            yield follower.lines()
        finally:
            self._followers.discard(follower)

    def remove(self, scope: Scope) -> None:
        """Remove the logs of an environment that was deleted."""
        self._queue.put(scope)

    def close(self) -> None:
        """Wait until everything is on disk; close the files."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        over = False
        while not over:
            items = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(items) < BATCH:
                    items.append(self._queue.get_nowait())
            lines: dict[AppKey, list[LogLine]] = {}
            for item in items:
                if isinstance(item, LogLine):
                    lines.setdefault((item.within, item.app), []).append(item)
                elif isinstance(item, _Mark):
                    self._put(lines)
                    item.answer(self._files.parts(item.app))
                elif isinstance(item, Scope):
                    self._put(lines)
                    self._files.remove(item)
                else:
                    over = True
            self._put(lines)
        self._files.close()

    def _put(self, lines: dict[AppKey, list[LogLine]]) -> None:
        for app, lines_of_app in lines.items():
            self._files.append(app, lines_of_app)
        lines.clear()


class _Mark:
    """A marker in the queue: when the thread reaches it, all earlier lines are written."""

    def __init__(self, app: AppKey, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.passed: asyncio.Future[list[Part]] = loop.create_future()
        self._loop = loop

    def answer(self, parts: list[Part]) -> None:
        def tell() -> None:
            if self.passed.done():  # the caller was cancelled
                for part in parts:
                    part.close()
            else:
                self.passed.set_result(parts)

        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(tell)


class _Follower:
    """One follower; if it reads too slowly, it loses lines, and gets their number."""

    def __init__(self, wants: Wanted) -> None:
        self._wants = wants
        self._queue: asyncio.Queue[LogLine] = asyncio.Queue(BACKLOG)
        self._lost = 0

    def see(self, line: LogLine) -> None:
        if not self._wants(line):
            return
        if self._lost and self._queue.qsize() < BACKLOG - 1:
            self._queue.put_nowait(logfiles.missing(line, self._lost, LAGS))
            self._lost = 0
        if self._queue.full():
            self._lost += 1
        else:
            self._queue.put_nowait(line)

    async def lines(self) -> AsyncIterator[LogLine]:
        while True:
            yield await self._queue.get()
