"""The canaries of all apps: versions that get a part of the requests until they are promoted or rolled back.

Called by `deployer`, in the app's turn; `beside` has the steps. `judging` counts their requests and decides. A row in the store
(`state/canaries`) says what there is, so a restart continues with the same share and the same end.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import field

from homeport.contract import codec
from homeport.contract.api.apps import CanaryEndpoint, CanaryState, CanaryStatus
from homeport.contract.api.deploys import Canary, checked
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Failure, NotFound, StorageError
from homeport.contract.scope import Scope
from homeport.contract.traffic import RequestRecord
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.beside import Beside
from homeport.control.deploys.judge import Pair
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.rollout import Rollout
from homeport.control.deploys.trial import Say
from homeport.control.fleet.owner import Owner
from homeport.state import canaries
from homeport.state.canaries import CanaryRow
from homeport.state.rows import Revision

BY_HAND = "it was rolled back by hand"  # the reason when a user ends it, who knows why

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Running:
    """A canary that gets requests now, with its counts."""

    owner: Owner
    row: CanaryRow
    revision: Revision
    sides: dict[
        str, tuple[str, bool]
    ]  # endpoint -> its tag, and whether it is the new version's own
    pairs: dict[str, Pair] = field(default_factory=dict)  # by tag
    #: After a restart: requests that have ended, each with its revision, until those before are read; null: they are.
    late: list[tuple[RequestRecord, str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What a row keeps of the counts."""

    endpoints: tuple[CanaryEndpoint, ...]


class Canaries:
    """Begins and ends canaries, one at a time of each app."""

    def __init__(
        self, parts: Parts, rollout: Rollout, now: Callable[[], float] = time.time
    ) -> None:
        self.rows = canaries.Canaries(parts.store.database)
        self.changed: Callable[[], None] = lambda: None  # called when one begins or ends
        self._beside = Beside(parts, rollout)
        self._store = parts.store
        self._now = now
        self._running: dict[Owner, Running] = {}

    async def load(self) -> None:
        """Read the rows."""
        await self.rows.load()

    async def close(self) -> None:
        """Stop the background work."""
        await self._beside.close()

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._running.values()))

    def of(self, owner: Owner) -> Running | None:
        """Return the canary of an app that gets requests now; None if it has none."""
        return self._running.get(owner)

    async def begin(
        self, owner: Owner, revision: Revision, current: LiveApp, wanted: Canary, say: Say
    ) -> CanaryStatus:
        """Bring a revision up beside the app's, and send it a part of the requests."""
        now = self._now()
        row = CanaryRow(
            app=owner.name,
            version=revision.version,
            revision=revision.id,
            before=current.revision.version,
            per_mille=per_mille(wanted),
            began_at=now,
            ends_at=now + wanted.seconds,
        )

        async def save() -> None:
            await self.rows.put(owner.scope, row)

        async def forget() -> None:
            await self.rows.remove(owner.scope, row)

        await self._beside.bring(
            owner, revision, current, row.per_mille, save=save, forget=forget, say=say
        )
        return self._runs(owner, row, revision, current)

    async def change(self, owner: Owner, current: LiveApp, wanted: Canary) -> CanaryStatus:
        """Give the canary of an app another share, and start its time again; what was counted stays."""
        running = self._running[owner]
        before = running.row
        row = dataclasses.replace(
            before,
            per_mille=per_mille(wanted),
            ends_at=self._now() + wanted.seconds,
        )
        await self._beside.change(
            current,
            running.revision,
            row.per_mille,
            before=before.per_mille,
            save=lambda: self.rows.put(owner.scope, row),
            unsave=lambda: self.rows.put(owner.scope, before),
        )
        running.row = row
        self.changed()
        return self.status_of(running)

    async def promote(self, owner: Owner, current: LiveApp, reason: str) -> LiveApp:
        """Let the canary of an app serve all its requests."""
        running = self._running.get(owner)
        if running is None:
            raise NotFound(
                f"the app `{owner.name}` has no canary",
                hint="`homeport deploy --canary 10%` deploys a version as one",
            )
        app = await self._beside.promote(owner, running.revision, current)
        await self._ended(running, canaries.PROMOTED, reason)
        return app

    async def end(self, owner: Owner, current: LiveApp | None, reason: str) -> CanaryStatus | None:
        """Send all requests to the app's version again, and say why; return None if it has no canary.

        Without a `current` version, as when the app is stopped, only the row is written.
        """
        running = self._running.get(owner)
        if running is None:
            await self._end_left(owner, reason)
            return None
        if current is not None:
            await self._beside.withdraw(running.revision, current)
        return await self._ended(running, canaries.ROLLED_BACK, reason)

    async def restore(self, owner: Owner, current: LiveApp) -> None:
        """Continue with a canary after a restart; one that cannot is rolled back."""
        row = self.rows.last((owner.scope, owner.name))
        if row is None or not row.is_running:
            return
        try:
            if row.version == current.revision.version:  # the server ended while it was promoted
                await self._write(owner, row, canaries.PROMOTED, "it was promoted")
                return
            revision = await self._store.of(owner.scope).revision(owner.name, row.version)
            await self._beside.restore(current, revision, row.per_mille)
            self._runs(owner, row, revision, current)
            self._running[owner].late = []
            self.changed()
        except Failure as failure:
            why = f"it could not be restored: {failure.message}"
            log.warning("the canary v%d of %s is rolled back: %s", row.version, owner, why)
            await self._end_left(owner, why)

    def status(self, owner: Owner) -> CanaryStatus | None:
        """Return the last canary of an app; None if it had none."""
        if (running := self._running.get(owner)) is not None:
            return self.status_of(running)
        row = self.rows.last((owner.scope, owner.name))
        return None if row is None else _status(row, _counted(row))

    def status_of(self, running: Running) -> CanaryStatus:
        """Return a canary that runs, with what was counted so far."""
        return _status(running.row, endpoint_counts(running.pairs))

    def rolled_back(self, owner: Owner) -> set[int]:
        """Return the versions of an app that were canaries and never served all of its requests."""
        rows = self.rows.of((owner.scope, owner.name))
        return {version for version, row in rows.items() if row.state != canaries.PROMOTED}

    def failed(self, scope: Scope, live: Callable[[Owner], LiveApp | None]) -> list[CanaryRow]:
        """Return the canaries that the server has rolled back, as long as the version before serves."""
        failed = []
        for row in self.rows.latest(scope):
            app = live(Owner.app(scope, row.app))
            if app is not None and has_failed(row, app.revision.version):
                failed.append(row)
        return failed

    def _runs(
        self, owner: Owner, row: CanaryRow, revision: Revision, current: LiveApp
    ) -> CanaryStatus:
        shared = self._beside.shared(current, revision)
        tags = {name: current.endpoints[name].tag for name in shared}
        running = Running(
            owner=owner,
            row=row,
            revision=revision,
            sides={
                **{name: (tags[name], False) for name in shared},
                **{other: (tags[name], True) for name, other in shared.items()},
            },
            pairs={tag: Pair() for tag in tags.values()},
        )
        self._running[owner] = running
        self.changed()
        return self.status_of(running)

    async def _ended(self, running: Running, state: str, reason: str) -> CanaryStatus:
        self._running.pop(running.owner, None)
        self.changed()
        row = running.row
        counted = endpoint_counts(running.pairs)
        log.info("the canary v%d of %s is %s: %s", row.version, running.owner, state, reason)
        return _status(await self._write(running.owner, row, state, reason, counted), counted)

    async def _end_left(self, owner: Owner, reason: str) -> None:
        """End a canary of which there is only the row."""
        row = self.rows.last((owner.scope, owner.name))
        if row is not None and row.is_running:
            await self._write(owner, row, canaries.ROLLED_BACK, reason)

    async def _write(
        self,
        owner: Owner,
        row: CanaryRow,
        state: str,
        reason: str,
        counted: tuple[CanaryEndpoint, ...] = (),
    ) -> CanaryRow:
        """Note how a canary has ended; where the disk is full, the next start of the server does."""
        counts = codec.dumps(_Counted(endpoints=counted))
        ended = dataclasses.replace(
            row, state=state, ended_at=self._now(), reason=reason, counts=counts
        )
        try:
            await self.rows.put(owner.scope, ended)
        except StorageError as error:
            self.rows.note(owner.scope, ended)
            log.warning("the end of the canary of %s is not written: %s", owner, error.message)
        return ended


def check(wanted: Canary, strategy: str) -> None:
    """Raise `BadRequest` for a share, a time or a strategy that a canary cannot have."""
    checked(wanted)
    if strategy != "rolling":
        raise BadRequest(
            f"a canary runs beside the old version, and with the strategy `{strategy}` the old containers end first"
        )


def has_failed(canary: CanaryRow | CanaryStatus, serving: int) -> bool:
    """Return whether the server has rolled a canary back, and the version before it still serves."""
    is_back = canary.state == canaries.ROLLED_BACK and canary.reason != BY_HAND
    return is_back and canary.before == serving


def per_mille(wanted: Canary) -> int:
    """Return the share of a canary.

    >>> per_mille(Canary(percent=10)), per_mille(Canary(percent=0.5))
    (100, 5)
    """
    return round(wanted.percent * 10)


def endpoint_counts(pairs: dict[str, Pair]) -> tuple[CanaryEndpoint, ...]:
    """Return what was counted, for users."""
    return tuple(
        CanaryEndpoint(
            tag=tag,
            old_requests=pair.old.requests,
            old_failed=pair.old.failed,
            old_p95_ms=pair.old.quantile(),
            new_requests=pair.new.requests,
            new_failed=pair.new.failed,
            new_p95_ms=pair.new.quantile(),
        )
        for tag, pair in sorted(pairs.items())
    )


def _counted(row: CanaryRow) -> tuple[CanaryEndpoint, ...]:
    try:
        return codec.loads(_Counted, row.counts).endpoints
    except (ValueError, TypeError, KeyError):
        return ()


def _status(row: CanaryRow, endpoints: tuple[CanaryEndpoint, ...]) -> CanaryStatus:
    return CanaryStatus(
        version=row.version,
        before=row.before,
        percent=row.per_mille / 10,
        state=CanaryState(row.state),
        began_at=row.began_at,
        ends_at=row.ends_at,
        ended_at=row.ended_at,
        reason=row.reason,
        endpoints=endpoints,
    )
