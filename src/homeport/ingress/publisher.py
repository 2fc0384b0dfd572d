"""Publishes changes to HAProxy, one at a time, each whole or not at all.

A change first alters the picture in memory, then sends commands to the running process. If the process
refuses, the supervisor starts another process with the new picture. If that fails too, the picture is
restored, and the caller gets the error.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from homeport.ingress.maps import Maps
from homeport.ingress.picture import Picture
from homeport.ingress.requests import Requests
from homeport.ingress.supervisor import Supervisor
from homeport.undo import Undo, unbroken

T = TypeVar("T")


class Changes:
    """The maps, and the process that has to know them."""

    def __init__(self, maps: Maps, supervisor: Supervisor) -> None:
        self._maps = maps
        self._supervisor = supervisor
        self._saving: asyncio.TimerHandle | None = None  # large maps are written a little later
        self._save_at = 0.0  # and not before this (monotonic)

    async def _whole(self, name: str, change: Callable[[Undo], Awaitable[T]]) -> T:
        """Carry out one change completely, after all earlier ones; undo it if it fails."""

        async def work() -> T:
            async with self._supervisor.turn, Undo(name) as undo:
                await self._supervisor.mend()
                undo.push(self._maps.revert)
                result = await change(undo)
                self._maps.commit()
                self._save()
                return result

        return await unbroken(work())

    def _save(self) -> None:
        """Write the changed maps for the next server; large ones so seldom that it takes a tenth of the time at most.

        The process itself writes what it needs before it begins.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._maps.is_large and began < self._save_at:
            if self._saving is None:
                self._saving = loop.call_at(self._save_at, self._save_now)
            return
        self._save_now()
        self._save_at = loop.time() + 9 * (loop.time() - began)

    def _save_now(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        # A full disk must not stop a deploy: `HAProxy._listen` saves again later.
        with contextlib.suppress(OSError):
            self._maps.save()


class Publisher(Changes):
    """The ingress's picture, its maps, and the process that has to know both."""

    def __init__(self, maps: Maps, picture: Picture, supervisor: Supervisor) -> None:
        super().__init__(maps, supervisor)
        self._picture = picture
        self._requests = Requests()
