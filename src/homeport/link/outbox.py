"""What one end of a connection still has to send: two lanes of frames, each with a limit.

`urgent`: commands, answers, changes. They keep their order. `bulk`: pieces of files and batches of log lines. A bulk
frame leaves only when no urgent frame waits, and is small, so a command never waits behind a flood of lines.

A lane that is full means that the peer does not read fast enough: the connection is cut (`Full`), and after the next
one the mirror asks for the whole list. So a slow peer costs a connection, never memory.
"""

import asyncio
from collections import deque

URGENT_BYTES = 32 * 2**20
BULK_BYTES = 8 * 2**20


class Full(Exception):
    """The peer does not read what was sent."""


class Outbox:
    """The frames that wait."""

    def __init__(self, urgent_bytes: int = URGENT_BYTES, bulk_bytes: int = BULK_BYTES) -> None:
        self._urgent, self._bulk = _Lane(urgent_bytes), _Lane(bulk_bytes)
        self._ready = asyncio.Event()

    def put(self, frame: bytes, *, bulk: bool = False) -> None:
        """Add a frame; raises `Full` if its lane has no room for it."""
        (self._bulk if bulk else self._urgent).put(frame)
        self._ready.set()

    async def take(self) -> bytes:
        """Wait for the frame that is to be sent next."""
        while True:
            for lane in (self._urgent, self._bulk):
                if lane.frames:
                    return lane.take()
            self._ready.clear()
            await self._ready.wait()

    @property
    def waiting_bytes(self) -> int:
        """How much waits."""
        return self._urgent.size_bytes + self._bulk.size_bytes


class _Lane:
    def __init__(self, most_bytes: int) -> None:
        self.frames: deque[bytes] = deque()
        self.size_bytes = 0
        self._most_bytes = most_bytes

    def put(self, frame: bytes) -> None:
        # An empty lane takes every frame: each frame is bounded by itself.
        if self.frames and self.size_bytes + len(frame) > self._most_bytes:
            raise Full(f"{self.size_bytes} bytes wait already")
        self.frames.append(frame)
        self.size_bytes += len(frame)

    def take(self) -> bytes:
        frame = self.frames.popleft()
        self.size_bytes -= len(frame)
        return frame
