"""Finds out soon that the machine of the control plane is gone, so that visitors who came in here do not wait for its answers.

A control plane that has ended is no reason: its HAProxy continues. So only a machine that takes no connection any more is
gone. As long as the control plane says something, nobody looks.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn, Protocol

LOOK_S = 0.5
SILENT_S = 1.5  # of the control plane, which sends a beat each second
MISSES = 3  # in a row

log = logging.getLogger(__name__)


class Way(Protocol):
    """The HAProxy of this machine, as far as its way to the control plane's machine goes."""

    async def answers(self) -> bool:
        """Return whether that machine answers."""

    async def part(self) -> None:
        """End the connections of visitors that were led there."""


class Lookout:
    """Looks, and parts from a machine that is gone."""

    def __init__(self, silent_s: Callable[[], float], way: Way) -> None:
        self._silent_s, self._way = silent_s, way
        self._misses = 0
        self._has_parted = False

    async def run(self) -> NoReturn:
        """Look again and again."""
        while True:
            await asyncio.sleep(max(LOOK_S, SILENT_S - self._silent_s()))
            await self.look()

    async def look(self) -> None:
        """Look once."""
        if self._silent_s() < SILENT_S or await self._way.answers():
            self._misses, self._has_parted = 0, False
            return
        self._misses += 1
        if self._misses >= MISSES and not self._has_parted:
            log.warning("the control plane's machine does not answer: connections to it end")
            await self._way.part()
            self._has_parted = True
