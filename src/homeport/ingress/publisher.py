"""Publishes changes to HAProxy, one at a time, each whole or not at all.

A change first alters the picture in memory, then sends commands to the running process. If the process
refuses, the supervisor starts another process with the new picture. If that fails too, the picture is
restored, and the caller gets the error.
"""

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
        # A full disk must not stop a deploy: `HAProxy._listen` saves again later.
        with contextlib.suppress(OSError):
            self._maps.save()


class Publisher(Changes):
    """The ingress's picture, its maps, and the process that has to know both."""

    def __init__(self, maps: Maps, picture: Picture, supervisor: Supervisor) -> None:
        super().__init__(maps, supervisor)
        self._picture = picture
        self._requests = Requests()
