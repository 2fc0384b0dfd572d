"""A spawned call in its container: claims the attempt, runs it, and delivers the outcome until the server has it.

No caller waits on the connection for the outcome, so the call continues if the connection ends: perhaps the control plane
or the ingress was killed. The container then asks the server whether the call was cancelled.
"""

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import Awaitable, Callable

from homeport import wire
from homeport.contract import calls, frames
from homeport.contract.sizes import MIB
from homeport.sdk import context

PAUSE_S = 0.5  # between two tries, while the server is away
LOOK_EACH_S = 2.0  # how often a call without a connection asks whether it was cancelled
LATE_S = 0.5  # a cancellation this shortly before the deadline is the deadline's
TOGETHER = 100  # reports in one request
TOGETHER_BYTES = MIB  # and their bodies; a larger one goes alone

Outcome = tuple[str, bytes]  # kind, body
Run = Callable[[], Awaitable[Outcome]]


class Reports:
    """Sends reports of attempts to the server: those that come while a request is on its way go together in the
    next one.
    """

    def __init__(self) -> None:
        self.running: set[str] = set()  # the attempts that this container claims or runs
        self._waiting: list[_Report] = []
        self._sending: asyncio.Task[None] | None = None
        self._alone: set[asyncio.Task[None]] = set()

    async def tell(self, which: str, body: bytes = b"") -> int:
        """Send a report until the server has accepted or refused it; return the status.

        A cancellation of the caller does not end this, because an outcome must not be lost.
        """
        report = _Report(which, body)
        if len(body) > TOGETHER_BYTES:  # the others do not wait for it
            self._alone.add(task := asyncio.ensure_future(self._send([report])))
            task.add_done_callback(self._alone.discard)
        else:
            self._waiting.append(report)
            if self._sending is None:
                self._sending = asyncio.ensure_future(self._send_all())
        while not report.status.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([report.status])
        return report.status.result()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send(self._next())
        finally:
            self._sending = None

    async def _send(self, reports: "list[_Report]") -> None:
        """Send reports until the server has taken or refused each."""
        while True:
            for report, status in zip(reports, await self._sent(reports), strict=True):
                if status < 500:
                    report.status.set_result(status)
            reports = [report for report in reports if not report.status.done()]
            if not reports:
                return
            await asyncio.sleep(PAUSE_S)

    def _next(self) -> "list[_Report]":
        """Take the reports of the next request."""
        count, size = 0, 0
        for report in self._waiting[:TOGETHER]:
            size += len(report.body)
            if count and size > TOGETHER_BYTES:
                break
            count += 1
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch

    async def _sent(self, batch: "list[_Report]") -> "list[int]":
        """Send reports in one request; return the status of each, or 503 if the server did not answer."""
        parts = [part for report in batch for part in (report.which.encode(), report.body)]
        request = wire.Request(
            "",
            frames.pack(parts),
            target="/v1/spawned/reports",
            content_type="application/octet-stream",
            fields=_fields(),
        )
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            answer = await wire.ask_async(_socket(), request)
            if answer.status == 200:
                statuses = json.loads(bytes(answer.body))["statuses"]
                if len(statuses) == len(batch):
                    return [int(status) for status in statuses]
            elif answer.status < 500:
                return [answer.status] * len(batch)
        return [503] * len(batch)


class _Report:
    """A report to the server, and the status of its answer."""

    def __init__(self, which: str, body: bytes) -> None:
        self.which, self.body = which, body
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class Spawned:
    """One attempt of a spawned call."""

    def __init__(
        self, call: str, place: str, attempt: str, *, timeout_s: float, reports: Reports
    ) -> None:
        self._outcome = f"/v1/spawned/{call}/outcome?place={place}"
        self._which = urllib.parse.urlencode({"call": call, "place": place, "attempt": attempt})
        self._timeout_s = timeout_s
        self._reports = reports

    async def run(self, work: Run, python: str, refused: Callable[[], bytes]) -> bool:
        """Run the attempt and deliver its outcome; False if it is not this container's to run, or runs already.

        `refused` returns the outcome, an error, for a result that the server does not take, because it is too large.
        """
        if self._which in self._reports.running:  # the server would say that it is this container's
            return False
        self._reports.running.add(self._which)
        try:
            return await self._run(work, python, refused)
        finally:
            self._reports.running.discard(self._which)

    async def _run(self, work: Run, python: str, refused: Callable[[], bytes]) -> bool:
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
        tell = self._reports.tell
        if await tell(f"{self._which}&kind={kind}&python={python}", body) == 400:
            await tell(f"{self._which}&kind=error&python={python}", refused())
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
        return await self._reports.tell(f"{self._which}&container={container}") < 300

    async def _is_cancelled(self) -> bool:
        """Ask the server whether this input was cancelled; False while the server does not answer.

        Not for the call, which may have thousands of inputs.
        """
        with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
            request = wire.Request("", b"", method="GET", target=self._outcome, fields=_fields())
            answer = await wire.ask_async(_socket(), request)
            if answer.status == 404:
                return True
            if answer.status == 200:
                return frames.unpack(bytes(answer.body))[:1] == [b"cancelled"]
        return False


class _Cancelled(Exception):
    """Raised when the call was cancelled."""


def _fields() -> "dict[str, str]":
    reach = context.reach()
    return {calls.KEY: reach.key} if reach is not None else {}


def _socket() -> str:
    reach = context.reach()
    return reach.socket if reach is not None else ""
