"""The routes of alerts."""

import re
import time

from homeport.contract.api.alerts import AddedAlert, Alert, AlertList, AlertTest, NewAlert
from homeport.contract.errors import BadRequest
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.control.api.access import Caller
from homeport.control.api.record import Record
from homeport.control.api.routing import route
from homeport.control.reporting.alerts import rules, webhook
from homeport.control.reporting.alerts.watcher import Watcher
from homeport.state import alerts
from homeport.state.alerts import AlertRow, MessageRow
from homeport.state.scope import columns

WINDOW_S = (60.0, 3600.0)


class Alerts:
    """Keeps alerts."""

    def __init__(self, alert_store: alerts.Alerts, watcher: Watcher) -> None:
        self._alerts, self._watcher = alert_store, watcher

    @route("GET", "/v1/alerts")
    async def every(self, scope: Scope) -> AlertList:
        """List the alerts, and how they are."""
        waiting = await self._alerts.messages()
        return AlertList(
            alerts=tuple(self._as_answer(row, waiting) for row in self._alerts.of(scope))
        )

    @route("POST", "/v1/alerts", action="alert add")
    async def add(self, scope: Scope, body: NewAlert, caller: Caller, record: Record) -> AddedAlert:
        """Watch something, and tell a webhook when it is wrong. The answer has the key of the messages' signature.

        Callers of one workspace, or of some environments, can name a host of the internet alone, and watch requests and starts.
        """
        limit = _check(body)
        if body.kind in rules.OF_SERVER:
            caller.check_server()
        trusted = caller.is_of_server and Permission.ADMIN in caller.permissions
        webhook.check(body.url, trusted=trusted)
        now = time.time()
        row = AlertRow(
            **columns(scope),
            name=body.name,
            kind=body.kind,
            app=body.app,
            tag=body.tag,
            threshold=limit,
            window_s=body.window_s,
            url=b"",
            trusted=int(trusted),
            created_at=now,
            state=rules.OK,
            since=now,
            good_since=None,
            told="",
        )
        record.target = f"{row.name} {row.kind} {webhook.target(body.url)}"
        row = await self._alerts.add(row, body.url)
        return AddedAlert(alert=self._as_answer(row, ()), secret=self._alerts.secret(row))

    @route("DELETE", "/v1/alerts/{name}", action="alert remove")
    async def remove(self, scope: Scope, name: str) -> None:
        """Remove an alert, and its messages that were not delivered."""
        await self._alerts.remove(scope, name)

    @route("POST", "/v1/alerts/{name}/test", action="alert test")
    async def test(self, scope: Scope, name: str) -> AlertTest:
        """Send a message to an alert's webhook that says that it is a test."""
        error = await self._watcher.test(self._alerts.find(scope, name))
        return AlertTest(delivered=not error, error=error)

    def _as_answer(self, row: AlertRow, messages: "list[MessageRow] | tuple[()]") -> Alert:
        own_messages = [message for message in messages if message.key == row.key]
        return Alert(
            name=row.name,
            kind=row.kind,
            app=row.app,
            tag=row.tag,
            limit=row.threshold,
            window_s=row.window_s,
            target=self._watcher.target(row),
            created_at=row.created_at,
            state=row.state,
            since=row.since,
            text=row.told,
            waiting=len(own_messages),
            error=own_messages[0].error if own_messages else "",
        )


def _check(body: NewAlert) -> float:
    """Return the alert's limit; `BadRequest` if it is not a number in its range."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", body.name):
        raise BadRequest(
            f"`{body.name[:80]}` cannot be the name of an alert",
            hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
        )
    if body.kind not in rules.LIMITS:
        kinds = ", ".join(f"`{kind}`" for kind in rules.LIMITS)
        raise BadRequest(f"`{body.kind[:80]}` is no kind of an alert", hint=f"there is {kinds}")
    if not WINDOW_S[0] <= body.window_s <= WINDOW_S[1]:
        raise BadRequest("an alert looks back for one minute up to one hour")
    limit = rules.LIMITS[body.kind] if body.limit is None else body.limit
    if not 0 < limit <= 1e9:
        raise BadRequest("the limit of an alert must be more than 0")
    if body.kind == "canary" and body.tag:
        raise BadRequest("a canary is of a whole app", hint=f"name `{body.app}` alone")
    if len(body.app) > 64 or len(body.tag) > 255:
        raise BadRequest("no app or function has such a long name")
    return limit
