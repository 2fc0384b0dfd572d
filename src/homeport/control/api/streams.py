"""Copies log lines into the API's streams."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from homeport.contract.api import events
from homeport.contract.container import LogLine

AT_ONCE = 500  # lines in one piece, and lines that a slow reader may lag behind
PAUSE_S = 0.05


async def copy_lines(lines: AsyncIterator[LogLine], queue: "asyncio.Queue[Any]") -> None:
    """Put each line into a stream's queue, no faster than the stream is read."""
    async for line in lines:
        while queue.qsize() > AT_ONCE:
            # The reader is slow: `lines` counts the lines that are lost meanwhile.
            await asyncio.sleep(PAUSE_S)
        queue.put_nowait(events.Log(line=line))
