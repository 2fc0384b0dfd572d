"""The calls of a fake: each is on record, and can be made to fail or to wait."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable


async def no_fault(_call: str, _what: str, _when: str) -> None:
    """Every call succeeds."""


class Recorded:
    """Records calls, and injects faults."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fault: Callable[[str, str, str], Awaitable[None]] = no_fault

    @contextlib.asynccontextmanager
    async def _call(self, name: str, what: object = "") -> AsyncIterator[None]:
        self.calls.append((name, str(what)))
        await self.fault(name, str(what), "before")
        yield
        await self.fault(name, str(what), "after")
