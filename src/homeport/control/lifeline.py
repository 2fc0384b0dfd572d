"""Ends a server together with the command that started it, unless the server is kept."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

from homeport.supervised import retried

BUSY_S = 0.05


class Lifeline:
    """Ends a server that is not kept when its command has ended."""

    def __init__(self, stop: asyncio.Event, *, kept: bool, keeper: int | None = None) -> None:
        self.kept = kept
        self.keeper = keeper  # the pid of the `homeport up --foreground` that starts it again
        self.busy: Callable[[], bool] = lambda: (
            False
        )  # returns whether other commands have sessions
        self._stop = stop
        self._leaving: asyncio.Task[None] | None = None

    def keep(self) -> None:
        """Let the server outlive its command from now on."""
        self.kept = True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for standard input to close."""
        with contextlib.suppress(OSError, ValueError):  # standard input is closed already
            loop.add_reader(sys.stdin.fileno(), self._closed, loop)
            return
        self._closed(loop)

    def _closed(self, loop: asyncio.AbstractEventLoop) -> None:
        if os.read(sys.stdin.fileno(), 4096):
            return
        loop.remove_reader(sys.stdin.fileno())
        self._leaving = loop.create_task(retried("ending the server", self._leave))

    async def _leave(self) -> None:
        while self.busy():
            await asyncio.sleep(BUSY_S)
        if not self.kept:
            self._stop.set()
