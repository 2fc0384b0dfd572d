"""Does something long piece by piece, so that others on the event loop have their turn: a request that parks must not wait.

What is looked at may change meanwhile, so a caller takes a copy of the list, and reads each item as it is then.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

TURN_S = 0.005


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items; let others have their turn whenever that has taken `TURN_S`. Few items are done in one piece."""
    until = time.perf_counter() + TURN_S
    for item in items:
        yield item
        if time.perf_counter() >= until:
            await asyncio.sleep(0)
            until = time.perf_counter() + TURN_S
