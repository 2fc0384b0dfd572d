"""The server's own rows in the audit log: when it began to serve, and what ended it.

A server that is killed leaves no row of its end; the next row of a start shows that. Called by `main`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack

from homeport._version import __version__
from homeport.contract.api.audit import AuditEntry
from homeport.state.audit import Audit

PATIENCE_S = 2.0  # a database that does not answer must not hold up the end


async def begin(audit: Audit, why: Callable[[], str], opened: AsyncExitStack) -> None:
    """Write that the server serves; it writes `why` it ends when `opened` is closed."""
    await _add(audit, "server start", f"homeport {__version__}")

    async def close() -> None:
        await end(audit, why())

    opened.push_async_callback(close)


async def end(audit: Audit, why: str) -> None:
    """Record why the server has ended."""
    await _add(audit, "server stop", why)


async def _add(audit: Audit, action: str, target: str) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await audit.add(AuditEntry(by="server", action=action, result="ok", target=target))
