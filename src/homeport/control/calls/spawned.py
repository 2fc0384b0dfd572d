"""Spawned calls, as the API asks for them: saves them, waits for outcomes, cancels."""

import asyncio
import contextlib
import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from homeport.contract import calls as wire
from homeport.contract.calls import Retries
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.scope import Scope
from homeport.contract.variants import Options
from homeport.control.calls.varied import Varied
from homeport.state.calls import CallRow, Calls, Outcome

_ID = re.compile(r"fc-[0-9a-f]{32,48}")
RETRIED = ("error", "timeout", "ended")


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
        #: Called when there may be something to send, or to stop sending.
        self.wake: Callable[[], None] = lambda: None
        self.stopped: Callable[[Sequence[CallRow]], None] = lambda _rows: None

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
        await self.rows.add(rows, inputs)
        self.wake()

    async def outcome(self, scope: Scope, call: str, place: int, wait_s: float) -> Outcome | None:
        """Return how a call ended; wait for that for at most `wait_s`, then None."""
        key = (call, place)
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key].add(told)
        try:
            found = await self.rows.of(scope).outcome(call, place)
            if found is None and wait_s > 0:
                await asyncio.wait([told], timeout=wait_s)
                found = await self.rows.of(scope).outcome(call, place)
            return found
        finally:
            self._waiting[key].discard(told)
            if not self._waiting[key]:
                del self._waiting[key]

    async def end(self, row: CallRow, outcome: Outcome) -> None:
        """Save the outcome of an attempt that has ended, or let the call wait for another attempt."""
        with contextlib.suppress(Failure):  # then there is no other attempt
            await self.prepare(row)
        policy = self.policy(row.endpoint)
        if outcome.kind in RETRIED and policy is not None and row.attempt < policy.max_retries:
            due_at = time.time() + policy.delay_s(row.attempt)
            await self.rows.again(row.id, row.place, row.attempt, due_at, outcome.kind)
            self.wake()
            return
        await self.rows.finish(row.id, row.place, row.attempt, outcome)
        self._tell([row])

    async def prepare(self, row: CallRow) -> None:
        """Make the variant that a call is for, if it is gone; raise if it cannot be made."""
        if self._varied is not None:
            await self._varied.make(row)

    async def cancel(self, scope: Scope, call: str) -> list[CallRow]:
        """Cancel a call of an environment; return what was cancelled."""
        rows = self.rows.of(scope)
        await rows.find(call)
        cancelled = await rows.cancel(call)
        self._tell(cancelled)
        self.stopped(cancelled)
        return cancelled

    def policy(self, endpoint: str) -> Retries | None:
        """Return the retries of the function behind an endpoint."""
        return Retries.parse(self._retries(endpoint) or "")

    def _tell(self, rows: Sequence[CallRow]) -> None:
        for row in rows:
            for told in self._waiting.get((row.id, row.place), ()):
                if not told.done():
                    told.set_result(None)
