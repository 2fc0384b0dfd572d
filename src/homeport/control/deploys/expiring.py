"""Stops apps whose time has come: preview deployments (`deploy --expires`)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from homeport.contract.api.audit import AuditEntry
from homeport.control.deploys.deployer import Deployer
from homeport.control.fleet.owner import Owner
from homeport.state.audit import Audit
from homeport.state.expiries import AppKey, Expiries
from homeport.supervised import Tasks, supervised

LOOK_S = 60.0  # how often at least: the machine's clock may be set
BUSY_S = 1.0  # before another look at an app that is being changed

log = logging.getLogger(__name__)


class Expiring:
    """Keeps the time of apps that stop by themselves."""

    def __init__(
        self,
        expiries: Expiries,
        deployer: Deployer,
        audit: Audit | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.expiries = expiries
        self._audit = audit
        self._deployer = deployer
        self._now = now
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to look."""
        self._tasks.start("expiring apps", supervised("expiring apps", self._look))

    async def close(self) -> None:
        """Look no more."""
        await self._tasks.close()

    def expires_at(self, app: Owner) -> float | None:
        """Return when an app stops, in seconds since the epoch; None if it lives until it is stopped."""
        expiry = self.expiries.of((app.scope, app.name))
        return None if expiry is None else expiry.expires_at

    async def deployed(self, app: Owner, seconds: float | None) -> None:
        """Note that an app was deployed; see `Expiries.deployed`."""
        await self.expiries.deployed((app.scope, app.name), seconds, self._now())
        self._changed.set()

    async def _look(self) -> None:
        while True:
            self._changed.clear()
            busy = [app for app in self.expiries.due(self._now()) if not await self._stopped(app)]
            at = self.expiries.next_at()
            wait_s = LOOK_S if at is None else min(max(at - self._now(), 0.0), LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, BUSY_S) if busy else wait_s):
                    await self._changed.wait()

    async def _stopped(self, app: AppKey) -> bool:
        """Stop an app; return False to try later, because another change of it may take long."""
        owner = Owner.app(*app)
        if self._deployer.is_changing(owner):
            return False
        await self._deployer.in_turn("stop", owner, self._stop_if_due(owner, app))
        return True

    async def _stop_if_due(self, owner: Owner, app: AppKey) -> None:
        """The look and the stop are one step: a deploy comes before both, and renews the app, or after both."""
        expiry = self.expiries.of(app)
        if expiry is None or expiry.expires_at > self._now():
            return
        log.info("%s has expired", owner)
        await self._deployer.stop_in_turn(owner)
        await self.expiries.forget(app)
        if self._audit is not None:
            await self._audit.add(
                AuditEntry(
                    by="server",
                    action="app stop",
                    result="ok",
                    workspace=owner.scope.workspace,
                    environment=owner.scope.environment,
                    app=owner.name,
                    target=f"{owner.name} has expired",
                )
            )
