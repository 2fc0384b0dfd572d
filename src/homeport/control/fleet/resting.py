"""Releases memory while no app serves: what nodes keep for next containers, and free memory of this process.

A deploy starts a node's zygotes again while it prepares the image, before a container needs them. An app at zero
counts as one that serves, so its cold starts are as fast as before.
"""

import asyncio
import ctypes
import gc
import logging
import sys

from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pools import Pools
from homeport.supervised import Tasks, supervised

AFTER_S = 60.0

log = logging.getLogger(__name__)


class Resting:
    """Looks now and then whether an app serves."""

    def __init__(self, pools: Pools, nodes: Nodes, after_s: float = AFTER_S) -> None:
        self._pools = pools
        self._nodes = nodes
        self._after_s = after_s
        self._has_trimmed = False
        self._tasks = Tasks()
        pools.on_added.append(self._added)

    def open(self) -> None:
        """Begin to look."""
        self._tasks.start("resting", supervised("resting", self._look_again_and_again))

    async def close(self) -> None:
        """Look no more."""
        await self._tasks.close()

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._after_s / 3)
            if list(self._pools):
                continue
            await self._nodes.rest(self._after_s)
            if not self._has_trimmed:
                self._has_trimmed = True
                trim()

    def _added(self, _pool: object) -> None:
        self._has_trimmed = False


def trim() -> None:
    """Give free memory of this process back to the system."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:
            log.debug("the C library has no malloc_trim")
