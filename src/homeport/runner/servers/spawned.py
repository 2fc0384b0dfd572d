"""A spawned call in its container: claims the attempt, runs it, and delivers the outcome until the server has it.

No caller waits on the connection for the outcome, so the call goes on if the connection ends: perhaps the control plane
or the ingress was killed. The container then asks the server whether the call was cancelled.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

from homeport import wire
from homeport.contract import calls
from homeport.sdk import context

PAUSE_S = 0.5  # between two tries, while the server is away
LOOK_EACH_S = 2.0  # how often a call without a connection asks whether it was cancelled
LATE_S = 0.5  # a cancellation this shortly before the deadline is the deadline's

Outcome = tuple[str, bytes]  # kind, body
Run = Callable[[], Awaitable[Outcome]]


class Spawned:
    """One attempt of a spawned call."""

    def __init__(self, call: str, place: str, attempt: str, *, timeout_s: float) -> None:
        self._path = f"/v1/spawned/{call}"
        self._which = f"place={place}&attempt={attempt}"
        self._timeout_s = timeout_s

    async def run(self, work: Run, python: str, refused: Callable[[], bytes]) -> bool:
        """Run the attempt and deliver its outcome; False if it is not this container's to run.

        `refused` returns the outcome, an error, for a result that the server does not take, because it is too large.
        """
        began = asyncio.get_running_loop().time()
        if not await self._claim():
            return False
        running = asyncio.ensure_future(work())
        try:
            kind, body = await self._ended(running, began)
        except _Cancelled:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await running
            return True
        status = await self._ask(f"outcome?{self._which}&kind={kind}&python={python}", body)
        if status == 400:
            await self._ask(f"outcome?{self._which}&kind=error&python={python}", refused())
        return True

    async def _ended(self, running: "asyncio.Future[Outcome]", began: float) -> Outcome:
        """Wait until the work has ended, also after the connection has ended."""
        loop = asyncio.get_running_loop()
        cut = False
        while True:
            try:
                if not cut:
                    return await asyncio.shield(running)
                done, _ = await asyncio.wait([running], timeout=LOOK_EACH_S)
                if done:
                    return running.result()
            except asyncio.CancelledError:
                if running.cancelled():
                    raise
                cut = True
            if loop.time() - began >= self._timeout_s - LATE_S:
                running.cancel()
                return (
                    "timeout",
                    f"it took longer than its timeout of {self._timeout_s:g} s".encode(),
                )
            if await self._is_cancelled():
                raise _Cancelled

    async def _claim(self) -> bool:
        reach = context.reach()
        container = reach.container if reach is not None else ""
        return await self._ask(f"claim?{self._which}&container={container}") < 300

    async def _is_cancelled(self) -> bool:
        """Ask the server whether the call was cancelled; False while the server does not answer."""
        with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
            request = wire.Request("", b"", method="GET", target=self._path, fields=_fields())
            answer = await wire.ask_async(_socket(), request)
            if answer.status == 404:
                return True
            if answer.status == 200:
                return bool(json.loads(bytes(answer.body))["state"] == "cancelled")
        return False

    async def _ask(self, rest: str, body: bytes = b"") -> int:
        """Send something to the server until it has taken or refused it; return the status."""
        request = wire.Request(
            "",
            body,
            target=f"{self._path}/{rest}",
            content_type="application/octet-stream",
            fields=_fields(),
        )
        while True:
            # A cancellation must not lose the outcome that is to be delivered.
            with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
                answer = await wire.ask_async(_socket(), request)
                if answer.status < 500:
                    return answer.status
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(PAUSE_S)


class _Cancelled(Exception):
    """Raised when the call was cancelled."""


def _fields() -> "dict[str, str]":
    reach = context.reach()
    return {calls.KEY: reach.key} if reach is not None else {}


def _socket() -> str:
    reach = context.reach()
    return reach.socket if reach is not None else ""
