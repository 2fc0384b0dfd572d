"""Carries out the changes of one owner one after the other: deploys, reloads, rollbacks and stops.

Called by `deployer`. A change has a task of its own, so it continues if its caller is cancelled; `Change.end`
cancels it, with a reason for the caller.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure
from homeport.control.fleet.owner import Owner

T = TypeVar("T")
Then = Callable[[], Awaitable[None]]
log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Change(Generic[T]):
    """One change of an owner, waiting or running."""

    kind: str
    task: asyncio.Task[T]
    ended_by: Failure | None = None  # why it was cancelled

    def end(self, why: Failure) -> None:
        """Cancel the change; its caller gets `why`."""
        self.ended_by = why
        self.task.cancel()

    async def result(self) -> T:
        """Wait for the change's result; the change continues if the caller is cancelled."""
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self.ended_by is not None and self.task.cancelled():
                raise self.ended_by from None
            raise


class Changes:
    """The changes of all owners that have not ended."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """`ended` is called after the end of each change."""
        self._on_end = ended
        self._turns: dict[Owner, asyncio.Lock] = {}
        self._all: dict[Owner, list[Change[Any]]] = {}  # in the order of their turns

    def __bool__(self) -> bool:
        return bool(self._all)

    def __iter__(self) -> Iterator[Change[Any]]:
        return iter([change for changes in self._all.values() for change in changes])

    def owners(self) -> list[Owner]:
        """Return the owners that have changes."""
        return list(self._all)

    def of(self, owner: Owner) -> list[Change[Any]]:
        """Return the owner's changes that have not ended, in the order of their turns."""
        return list(self._all.get(owner, ()))

    async def run(
        self, kind: str, owner: Owner, work: Coroutine[Any, Any, T], then: Then | None = None
    ) -> T:
        """Carry out one change of an owner, after its earlier changes; `then` is called in the same turn."""
        return await self.begin(kind, owner, work, then).result()

    def begin(
        self, kind: str, owner: Owner, work: Coroutine[Any, Any, T], then: Then | None = None
    ) -> Change[T]:
        """Let a change wait for its turn, in the background."""
        task = asyncio.create_task(self._in_turn(owner, work, then), name=f"{kind} of {owner}")
        change = Change(kind=kind, task=task)
        self._all.setdefault(owner, []).append(change)
        task.add_done_callback(lambda _task: self._ended(owner, change, work))
        return change

    async def close(self, why: Failure) -> None:
        """Cancel all changes; each is undone."""
        for change in self:
            change.end(why)
            await asyncio.wait([change.task])

    async def _in_turn(self, owner: Owner, work: Coroutine[Any, Any, T], then: Then | None) -> T:
        async with self._turns.setdefault(owner, asyncio.Lock()):
            result = await work
            if then is not None:
                await then()
            return result

    def _ended(self, owner: Owner, change: Change[Any], work: Coroutine[Any, Any, Any]) -> None:
        work.close()  # it may have been cancelled before it started
        self._all[owner].remove(change)
        if not self._all[owner]:
            del self._all[owner]
            del self._turns[owner]
        self._on_end()
        task = change.task
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, Failure):  # its caller may not read it
                log.info("%s: %s", task.get_name(), error.message)
            else:
                log.error("%s failed", task.get_name(), exc_info=error)
