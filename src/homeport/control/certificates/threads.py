"""Threads for requests to strangers, such as a CA or a DNS provider, which may take as long as they like.

The loop's own pool has few threads, on which all of the control plane waits: files, the database, signatures.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

AT_ONCE = 8

T = TypeVar("T")
_POOL = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="strangers")


async def apart(work: Callable[..., T], *args: Any) -> T:
    """Return what `work` returns in one of these threads."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, work, *args)
