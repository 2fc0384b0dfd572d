"""Spawned calls, as the API asks for them: saves them, waits for outcomes, cancels."""

import asyncio
import contextlib
import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from homeport.contract import calls as wire
from homeport.contract.calls import Retries
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.scope import Scope
from homeport.contract.variants import Options
from homeport.control.calls.lines import Waiting
from homeport.control.calls.varied import Varied
from homeport.state.call_rows import RUNNING, WAITING, CallRow, Outcome, is_small
from homeport.state.calls import Calls

_ID = re.compile(r"fc-[0-9a-f]{32,48}")
RETRIED = ("error", "timeout", "ended")


class Sender(Protocol):
    """Brings calls to containers: the dispatcher."""

    def added(self, calls: Sequence[Waiting]) -> None:
        """Send new calls of one function, which are in the database; each has its input if that is small."""

    def claimed(self, call: str, place: int, attempt: int) -> None:
        """Note that a container has a call."""

    def due(self, endpoint: str, at: float) -> None:
        """Note that a call waits for a time."""

    def stopped(self, rows: Sequence[CallRow]) -> None:
        """Stop sending calls, which were cancelled."""


class _Nobody:
    """Sends nothing, before the dispatcher is open: it then reads what waits."""

    def added(self, calls: Sequence[Waiting]) -> None: ...
    def claimed(self, call: str, place: int, attempt: int) -> None: ...
    def due(self, endpoint: str, at: float) -> None: ...
    def stopped(self, rows: Sequence[CallRow]) -> None: ...


class Spawned:
    """Saves and cancels spawned calls, and wakes the callers that wait for an outcome."""

    def __init__(
        self,
        rows: Calls,
        retries: Callable[[str], str | None],
        varied: Varied | None = None,
        *,
        key: Callable[[Scope], str],
    ) -> None:
        """`key` returns the key of an environment. `retries` returns an endpoint's policy as text, perhaps empty; None if no app has the endpoint."""
        self.rows = rows
        self._retries = retries
        self._varied = varied
        self._key = key
        self._waiting: defaultdict[tuple[str, int], set[asyncio.Future[None]]] = defaultdict(set)
        self.sender: Sender = _Nobody()

    async def spawn(
        self, row: CallRow, scope: str, inputs: Sequence[bytes], options: Options | None = None
    ) -> None:
        """Save a call, of one input or several; it is on the disk when this returns."""
        if not _ID.fullmatch(row.id):
            raise BadRequest("the id of a call is `fc-` and 32 to 48 hexadecimal digits")
        if not inputs:
            raise BadRequest("a call has at least one input")
        endpoint = wire.endpoint_id(row.app, row.tag, key=self._key(row.scope), scope=scope)
        if options is not None and self._varied is not None:
            row = await self._varied.take(row, scope, options)
            endpoint = row.endpoint
        if self._retries(endpoint) is None:
            raise NotFound(f"the app `{row.app}` has no function `{row.tag}`")
        now = time.time()
        rows = [
            dataclasses.replace(row, place=place, endpoint=endpoint, due_at=now, created_at=now)
            for place in range(len(inputs))
        ]
        if await self.rows.add(rows, inputs):
            bodies = (body if is_small(body) else None for body in inputs)
            self.sender.added(list(zip(rows, bodies, strict=True)))

    async def outcome(self, scope: Scope, call: str, place: int, wait_s: float) -> Outcome | None:
        """Return how a call ended; wait for that for at most `wait_s`, then None."""
        key = (call, place)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key].add(ended)
        try:
            outcome = await self.rows.of(scope).outcome(call, place)
            if outcome is None and wait_s > 0:
                await asyncio.wait([ended], timeout=wait_s)
                outcome = await self.rows.of(scope).outcome(call, place)
            return outcome
        finally:
            self._waiting[key].discard(ended)
            if not self._waiting[key]:
                del self._waiting[key]

    async def claim(
        self, scope: Scope, call: str, place: int, attempt: int, container: str
    ) -> bool:
        """Give an attempt to a container; False if it is another one's, or over."""
        is_mine = await self.rows.of(scope).claim(call, place, attempt, container)
        if is_mine:
            self.sender.claimed(call, place, attempt)
        return is_mine

    async def ended(
        self, scope: Scope, call: str, place: int, attempt: int, outcome: Outcome
    ) -> None:
        """Take the outcome of an attempt from its container; ignore it if the attempt is over."""
        rows = self.rows.of(scope)
        is_simple = outcome.kind not in RETRIED and is_small(outcome.body)
        if is_simple and await rows.finish(call, place, attempt, outcome):
            self._wake(call, place)
            return
        row = await rows.one(call, place)
        if row is None:
            raise NotFound(f"there is no call `{call[:80]}`")
        if row.attempt == attempt and row.state in (RUNNING, WAITING):
            await self.end(row, outcome)

    async def end(self, row: CallRow, outcome: Outcome) -> None:
        """Save the outcome of an attempt that has ended, or let the call wait for another attempt."""
        with contextlib.suppress(Failure):  # then there is no other attempt
            await self.prepare(row)
        policy = self.policy(row.endpoint)
        if outcome.kind in RETRIED and policy is not None and row.attempt < policy.max_retries:
            due_at = time.time() + policy.delay_s(row.attempt)
            await self.rows.again(row.id, row.place, row.attempt, due_at, outcome.kind)
            self.sender.due(row.endpoint, due_at)
            return
        await self.rows.finish(row.id, row.place, row.attempt, outcome)
        self._wake(row.id, row.place)

    async def prepare(self, row: CallRow) -> None:
        """Make the variant that a call is for, if it was removed; raise if it cannot be made."""
        if self._varied is not None:
            await self._varied.make(row)

    async def cancel(self, scope: Scope, call: str) -> list[CallRow]:
        """Cancel a call of an environment; return the rows that were cancelled."""
        rows = self.rows.of(scope)
        await rows.find(call)
        cancelled = await rows.cancel(call)
        for row in cancelled:
            self._wake(row.id, row.place)
        self.sender.stopped(cancelled)
        return cancelled

    def policy(self, endpoint: str) -> Retries | None:
        """Return the retries of the function behind an endpoint."""
        return Retries.parse(self._retries(endpoint) or "")

    def _wake(self, call: str, place: int) -> None:
        for waiter in self._waiting.get((call, place), ()):
            if not waiter.done():
                waiter.set_result(None)
