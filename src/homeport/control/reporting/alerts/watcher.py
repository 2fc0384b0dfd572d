"""The two loops of alerts: one measures the watched values, and one delivers the messages.

Without an alert, neither is ever woken. Requests and starts are looked at only while there are some, or while an alert of them
fires; other machines every 15 seconds, canaries and the disk once a minute, certificates once an hour.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from homeport.contract import names
from homeport.contract.errors import StorageError
from homeport.contract.scope import Scope
from homeport.control.certificates.keeper import HostState
from homeport.control.reporting.alerts import rules
from homeport.control.reporting.alerts.rules import Measured
from homeport.control.reporting.alerts.webhook import Undelivered, Webhooks, target
from homeport.state.alerts import AlertRow, Alerts, MessageRow
from homeport.state.canaries import CanaryRow
from homeport.state.grids import Window, window
from homeport.state.requests import Requests
from homeport.state.traffic import Traffic
from homeport.state.usage import Usages
from homeport.supervised import Tasks, supervised

EVERY_S = {
    "errors": 15.0,
    "latency": 15.0,
    "starts": 15.0,
    "canary": 60.0,
    "disk": 60.0,
    "certificate": 3600.0,
    "machine": 15.0,
}
STEP_S = 10  # in which requests are counted
DAY_S = 86400.0

log = logging.getLogger(__name__)


class Watcher:
    """Watches what alerts are about."""

    def __init__(
        self,
        alerts: Alerts,
        requests: Requests,
        usages: Usages,
        *,
        home: Path,
        certificates: Callable[[], Sequence[HostState]],
        canaries: Callable[[Scope], Sequence[CanaryRow]],
        machines: Callable[[], Sequence[str]] = tuple,
        webhooks: Webhooks | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`canaries` returns those of an environment that were rolled back and have no successor yet.

        `machines` returns those that were given up.
        """
        self._alerts = alerts
        self._traffic = Traffic(requests, now)
        self._usages = usages
        self._home = home
        self._certificates = certificates
        self._canaries, self._machines = canaries, machines
        self._webhooks = webhooks or Webhooks()
        self._now = now
        self._touched = True  # there may have been requests before this server
        self._looked: dict[tuple[Scope, str], float] = {}
        self._delivered: set[int] = set()  # messages whose rows could not be deleted yet
        self._wake, self._post = asyncio.Event(), asyncio.Event()
        self._tasks = Tasks()
        alerts.changed = self._changed

    def open(self) -> None:
        """Start to look, and to deliver the messages that an earlier server has left."""
        self._post.set()
        for name, loop in (("alerts", self._watch), ("webhooks", self._deliver)):
            self._tasks.start(name, supervised(name, loop, expected=StorageError))

    async def close(self) -> None:
        """Stop both loops; messages wait for the next server."""
        await self._tasks.close()

    def touched(self) -> None:
        """Note that requests have ended, or containers did not start."""
        if not self._touched:
            self._touched = True
            self._wake.set()

    async def test(self, row: AlertRow) -> str:
        """Send a message that says that it is a test; return why it was not delivered, or nothing."""
        body = {"id": f"{row.name}-test", **_body(row, "test", "this is a test", self._now())}
        return await self._error(row, json.dumps(body))

    def target(self, row: AlertRow) -> str:
        """Return the part of an alert's URL that is no secret; empty if the URL cannot be read."""
        try:
            return target(self._alerts.url(row))
        except StorageError:  # the vault's key is another one
            return ""

    async def look(self, row: AlertRow) -> None:
        """Measure once the value that an alert watches, and record a change."""
        now = self._now()
        self._looked[row.key] = now
        if row.kind in rules.OF_LOOP:
            measured = self._measured(row, now)
        else:
            measured = await asyncio.to_thread(self._measured, row, now)
        before = rules.State(state=row.state, since=row.since, good_since=row.good_since)
        after = rules.after(
            before,
            bad=rules.is_bad(row.kind, row.threshold, measured),
            calm_s=rules.calm_s(row.kind, row.window_s),
            now=now,
        )
        text = rules.describe(row.kind, row.threshold, measured)
        changed = dataclasses.replace(
            row, state=after.state, since=after.since, good_since=after.good_since, told=text
        )
        if after == before and (after.state == rules.OK or text == row.told):
            return  # nothing is written while all is well
        body = None
        if after.state != before.state:
            word = "firing" if after.state == rules.FIRING else "resolved"
            body = _body(changed, word, text, now)
            log.info("the alert `%s` of %s is %s: %s", row.name, row.scope, word, text)
        await self._alerts.become(changed, body)
        if body is not None:
            self._post.set()

    # the watched values

    def _measured(self, row: AlertRow, now: float) -> Measured | None:
        """Return the worst number; None if there is none. It blocks, but for the kinds of `rules.OF_LOOP`."""
        if row.kind == "disk":
            usage = shutil.disk_usage(self._home)
            # As df(1) counts: what only root may use is used.
            return Measured(value=100 * usage.used / max(usage.used + usage.free, 1))
        if row.kind == "certificate":
            return _worst(
                (Measured(value=(certificate.not_after - now) / DAY_S, what=certificate.host)
                for certificate in self._certificates() if certificate.not_after is not None),
                lowest=True,
            )  # fmt: skip
        if row.kind == "machine":
            gone = self._machines()
            return Measured(value=len(gone), why=", ".join(gone)) if gone else None
        if row.kind == "canary":
            canaries = self._canaries(row.scope)
            return _rolled_back([c for c in canaries if row.app in ("", c.app)])
        # With the requests of this very moment: perhaps none comes after them.
        steps = window(max(now - row.window_s, 0.0), now + 0.001, STEP_S)
        if row.kind == "starts":
            return self._failed_starts(row, steps)

        def wants(app: str, tag: str) -> bool:
            return row.app in ("", app) and row.tag in ("", tag)

        totals = self._traffic.totals(row.scope, steps, wants)
        return _worst(
            Measured(
                value=total.p99_ms
                if row.kind == "latency"
                else 100 * total.failed / total.requests,
                what=names.endpoint(total.app, total.tag),
            )
            for total in totals
            if total.requests >= rules.MOST_REQUESTS_AWAY
        )

    def _failed_starts(self, row: AlertRow, steps: Window) -> Measured | None:
        def wants(app: str, function: str) -> bool:
            return row.app in ("", app) and (
                row.tag in ("", function) or row.tag.startswith(f"{function.removesuffix('*')}")
            )

        _, functions = self._usages.functions(row.scope, steps, wants)
        return _worst(
            Measured(
                value=sum(series.failed_starts), what=names.endpoint(series.app, series.function)
            )
            for series in functions
        )

    # the loops

    def _changed(self) -> None:
        self._touched = True
        self._wake.set()
        self._post.set()

    async def _watch(self) -> None:
        while True:
            self._wake.clear()
            rows = self._alerts.all()
            self._looked = {row.key: self._looked.get(row.key, -math.inf) for row in rows}
            touched, self._touched = self._touched, False
            late = [row for row in rows if self._due_at(row, touched=touched) <= self._now()]
            if touched and any(row.kind in rules.WITH_WINDOW and row not in late for row in rows):
                self._touched = True  # they are looked at in a moment
            for row in late:
                await self.look(row)
            at = min((self._due_at(row, touched=self._touched) for row in self._alerts.all()), default=math.inf)  # fmt: skip
            wait_s = None if at == math.inf else max(at - self._now(), 0.1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _due_at(self, row: AlertRow, *, touched: bool) -> float:
        """Return when to look at an alert again; infinity: when something has happened."""
        looked_at = self._looked.get(row.key, -math.inf)
        if looked_at > self._now():  # the machine's clock was set back
            return self._now()
        if row.kind in rules.WITH_WINDOW and not touched and row.state == rules.OK:
            return math.inf
        return looked_at + EVERY_S[row.kind]

    async def _deliver(self) -> None:
        while True:
            self._post.clear()
            waiting = await self._alerts.messages() if self._alerts.all() else []
            first: dict[tuple[Scope, str], MessageRow] = {}
            for message in waiting:  # those of one alert come in their order
                first.setdefault(message.key, message)
            now = self._now()
            due = [message for message in first.values() if rules.is_due(message.next_at, now)]
            # All end before an error is raised: the next start of this loop must not send again what is on its way.
            for end in await asyncio.gather(*map(self._try, due), return_exceptions=True):
                if end is not None:
                    raise end
            if due:
                continue
            at = min((message.next_at for message in first.values()), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if at == math.inf else max(at - self._now(), 0.1)):
                    await self._post.wait()

    async def _try(self, message: MessageRow) -> None:
        row = next((alert for alert in self._alerts.all() if alert.key == message.key), None)
        if row is None:
            await self._alerts.delivered(message)
            return
        if message.id not in self._delivered:
            error = await self._error(row, message.body)
            if error:
                await self._failed(row, message, error)
                return
            self._delivered.add(message.id)
        await self._alerts.delivered(message)
        self._delivered.discard(message.id)

    async def _error(self, row: AlertRow, body: str) -> str:
        """Send a message; return why it was not delivered, or nothing."""
        try:
            await self._send(row, body)
        except Undelivered as error:
            return str(error)
        except Exception as error:  # one alert's message holds up no other one's
            log.exception("a message of the alert `%s` cannot be sent", row.name)
            return f"{type(error).__name__}: {error}"
        return ""

    async def _failed(self, row: AlertRow, message: MessageRow, error: str) -> None:
        """Note that a message was not delivered, or give it up."""
        tries = message.tries + 1
        if rules.is_given_up(tries, self._now() - message.at):
            log.warning("a message of the alert `%s` to %s is given up: %s", row.name, self.target(row), error)  # fmt: skip
            await self._alerts.delivered(message)
            return
        if tries == 1:
            log.warning("a message of the alert `%s` to %s is sent again: %s", row.name, self.target(row), error)  # fmt: skip
        await self._alerts.failed(message, error, self._now() + rules.wait_s(tries))

    async def _send(self, row: AlertRow, body: str) -> None:
        try:
            url, secret = self._alerts.url(row), self._alerts.secret(row)
        except StorageError as error:  # the vault's key is another one
            raise Undelivered(error.message) from None
        await self._webhooks.send(url, body.encode(), secret, trusted=bool(row.trusted))


def _worst(measures: Iterable[Measured], *, lowest: bool = False) -> Measured | None:
    choose = min if lowest else max
    return choose(measures, key=lambda measure: measure.value, default=None)


def _rolled_back(canaries: Sequence[CanaryRow]) -> Measured | None:
    last = max(canaries, key=lambda canary: canary.ended_at or 0.0, default=None)
    if last is None:
        return None
    what = f"{last.app} v{last.version}"
    return Measured(value=len(canaries), what=what, why=last.reason)


def _body(row: AlertRow, state: str, text: str, now: float) -> dict[str, object]:
    """Return the message for a webhook, without its id."""
    return {
        "alert": row.name,
        "state": state,
        "kind": row.kind,
        "app": row.app,
        "function": row.tag,
        "text": text,
        "limit": row.threshold,
        "at": round(now, 3),
        "workspace": row.workspace,
        "environment": row.environment,
    }
