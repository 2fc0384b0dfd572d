"""What containers print: on disk by app, and to whoever follows.

`logs/<app>.jsonl`, one LogLine each; at half the cap the file becomes `<app>.1.jsonl` and a new one
begins, so that an app never takes more than the cap.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from homeport.contract import codec
from homeport.contract.container import LogLine

BACKLOG = 10_000  # lines that a slow follower may lag behind before it loses some

Wanted = Callable[[LogLine], bool]


class Logs:
    """Every app's log."""

    def __init__(self, root: Path, cap_bytes: int) -> None:
        self._root = root
        self._half = max(cap_bytes // 2, 64 * 1024)
        self._files: dict[str, TextIO] = {}
        self._followers: dict[asyncio.Queue[LogLine], Wanted] = {}
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, line: LogLine) -> None:
        """Keep a line and hand it to the followers; a full disk loses it, and nothing else."""
        with contextlib.suppress(OSError):
            file = self._files.get(line.app) or self._open(line.app)
            file.write(codec.dumps(line) + "\n")
            file.flush()
            if file.tell() > self._half:
                self._turn_over(line.app)
        for queue, wants in self._followers.items():
            if wants(line) and not queue.full():
                queue.put_nowait(line)

    def tail(self, app: str, count: int, wants: Wanted) -> list[LogLine]:
        """The last `count` lines that are wanted, the oldest first."""
        last: deque[LogLine] = deque(maxlen=count)
        for path in (self._path(app, ".1"), self._path(app)):
            last.extend(line for line in _read(path) if wants(line))
        return list(last)

    @contextmanager
    def following(self, wants: Wanted) -> Iterator[AsyncIterator[LogLine]]:
        """The wanted lines that are written from now on."""
        queue: asyncio.Queue[LogLine] = asyncio.Queue(BACKLOG)
        self._followers[queue] = wants
        try:
            yield _drained(queue)
        finally:
            del self._followers[queue]

    def close(self) -> None:
        """Give the files back."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, app: str) -> TextIO:
        path = self._path(app)
        file = path.open("a", encoding="utf-8", errors="replace")
        path.chmod(0o600)
        self._files[app] = file
        return file

    def _turn_over(self, app: str) -> None:
        self._files.pop(app).close()
        self._path(app).replace(self._path(app, ".1"))

    def _path(self, app: str, part: str = "") -> Path:
        return self._root / f"{app}{part}.jsonl"


def _read(path: Path) -> Iterator[LogLine]:
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        for text in file:
            with contextlib.suppress(ValueError, TypeError):  # a line cut by a full disk
                yield codec.loads(LogLine, text)


async def _drained(queue: asyncio.Queue[LogLine]) -> AsyncIterator[LogLine]:
    while True:
        yield await queue.get()
