"""What the streams of the API have in common: the log lines that they carry."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from homeport.contract.api import events
from homeport.contract.container import LogLine

AT_ONCE = 500  # lines in one piece, and lines that a slow reader may lag behind
PAUSE_S = 0.05


async def copy_lines(lines: AsyncIterator[LogLine], queue: "asyncio.Queue[Any]") -> None:
    """Put each line into a stream's queue, as fast as somebody reads it."""
    async for line in lines:
        while queue.qsize() > AT_ONCE:  # nobody reads: `lines` counts what is lost meanwhile
            await asyncio.sleep(PAUSE_S)
        queue.put_nowait(events.Log(line=line))
