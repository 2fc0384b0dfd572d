"""Finds out soon that the machine of the control plane is gone, so that visitors who came in here do not wait for its answers.

A control plane that has ended is no reason: its HAProxy continues. So only a machine that takes no connection any more is
gone. As long as the control plane says something, nobody looks. Calls of this machine's containers wait longer, because a call
that was inside may have run, and is not made again unless its function has `retries`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

LOOK_S = 0.5
SILENT_S = 1.5  # of the control plane, which sends a beat each second
MISSES = 3  # in a row
LOST_S = 25.0  # without an answer, until calls that were led there end

log = logging.getLogger(__name__)


class Way(Protocol):
    """The HAProxy of this machine, as far as its way to the control plane's machine goes."""

    async def answers(self) -> bool:
        """Return whether that machine answers."""

    async def part(self) -> None:
        """End the connections of visitors that were led there."""

    async def part_callers(self) -> None:
        """End the calls of containers that were led there."""


class Lookout:
    """Looks, and parts from a machine that is gone."""

    def __init__(
        self,
        silent_s: Callable[[], float],
        way: Way,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silent_s, self._way, self._clock = silent_s, way, clock
        self._misses, self._since = 0, 0.0  # looks without an answer, and when the first was
        self._has_parted = self._has_ended_calls = False

    async def run(self) -> NoReturn:
        """Look again and again."""
        while True:
            await asyncio.sleep(max(LOOK_S, SILENT_S - self._silent_s()))
            await self.look()

    async def look(self) -> None:
        """Look once."""
        if self._silent_s() < SILENT_S or await self._way.answers():
            self._misses = 0
            self._has_parted = self._has_ended_calls = False
            return
        if not self._misses:
            self._since = self._clock()
        self._misses += 1
        if self._misses >= MISSES and not self._has_parted:
            log.warning("the control plane's machine does not answer: connections to it end")
            await self._way.part()
            self._has_parted = True
        if self._clock() - self._since >= LOST_S and not self._has_ended_calls:
            log.warning("the control plane's machine does not answer: calls that are there end")
            await self._way.part_callers()
            self._has_ended_calls = True
