"""Counts the requests of canaries as they end, and promotes or rolls back each one when `judge` says so.

While there is no canary, nothing is counted and nothing is looked at. After a restart the requests since the canary's begin are
read from the files of requests, so nothing is forgotten that these keep.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from homeport.contract import recorded
from homeport.contract.api.audit import AuditEntry
from homeport.contract.errors import Failure, IngressError, StorageError
from homeport.contract.recorded import CONTAINER, ENDED, ENDPOINT
from homeport.contract.traffic import PoolKey, RequestRecord
from homeport.control.deploys import judge
from homeport.control.deploys.canaries import Running
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.judge import Starts
from homeport.control.fleet.pools import Pools
from homeport.state.audit import Audit
from homeport.state.deploys import OK, Deploys
from homeport.state.marks import Line
from homeport.state.requests import Place, Requests
from homeport.supervised import Tasks, supervised

LOOK_S = 1.0  # how often at least: containers that do not start make no requests
PAUSE_S = 0.2  # between two looks at the most
AGAIN_S = 5.0  # before another try to carry a decision out
READ = 20_000  # requests that are read again after a restart

log = logging.getLogger(__name__)


class Judging:
    """Looks at the canaries."""

    def __init__(
        self,
        deployer: Deployer,
        pools: Pools,
        requests: Requests,
        audit: Audit | None = None,
        history: Deploys | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._deployer = deployer
        self._canaries = deployer.canaries
        self._pools = pools
        self._requests = requests
        self._audit = audit
        self._history = history
        self._now = now
        self._sides: dict[str, Running] = {}  # by endpoint
        self._wake = asyncio.Event()
        self._tasks = Tasks()
        self._canaries.changed = self._changed

    def open(self) -> None:
        """Begin to look."""
        self._changed()
        self._tasks.start("canaries", supervised("canaries", self._look, expected=StorageError))

    async def close(self) -> None:
        """Look no more."""
        self._requests.hide(self)
        await self._tasks.close()

    def see(
        self, lines: Sequence[Line], _places: dict[str, Place | None], revisions: dict[str, str]
    ) -> None:
        """Count requests that have ended."""
        for line in lines:
            running = self._sides.get(line[ENDPOINT])
            if running is None:
                continue
            request, revision = recorded.decode(line), revisions[line[CONTAINER]]
            if running.late is None:
                self._count(running, request, revision)
                self._wake.set()
            else:
                running.late.append((request, revision))

    def _count(self, running: Running, request: RequestRecord, revision: str) -> None:
        tag, is_new = running.sides[request.endpoint]
        outcome = judge.outcome(request)
        if outcome is None:
            return
        # The old version answers what the new one has no container for.
        if revision:
            is_new = revision == running.revision.id
        pair = running.pairs[tag]
        (pair.new if is_new else pair.old).add(outcome)

    def _changed(self) -> None:
        self._sides = {name: running for running in self._canaries for name in running.sides}
        if self._sides:
            self._requests.show(self)
        else:
            self._requests.hide(self)
        self._wake.set()

    async def _look(self) -> None:
        while True:
            self._wake.clear()
            failed = [running for running in self._canaries if not await self._judged(running)]
            wait_s: float | None = None
            if self._sides:
                ends = [running.row.ends_at - self._now() for running in self._canaries]
                wait_s = AGAIN_S if failed else max(min([LOOK_S, *ends]), PAUSE_S)
                await asyncio.sleep(PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _judged(self, running: Running) -> bool:
        """Look at a canary, and carry out what is decided; return False to try again later."""
        if running.late is not None:
            await self._read_again(running)
            return True  # the requests that ended meanwhile are in HAProxy's memory: they come in a moment
        if self._deployer.is_changing(running.owner):
            return True
        bad = self._what_is_wrong(running)
        if not bad and self._now() < running.row.ends_at:
            return True
        bad = bad or judge.at_the_end(running.pairs)
        return await (self._roll_back(running, bad) if bad else self._promote(running))

    def _what_is_wrong(self, running: Running) -> str:
        if bad := judge.cannot_start(self._starts(running)):
            return bad
        for tag, pair in running.pairs.items():
            if bad := judge.worse(tag, pair, len(running.pairs)):
                return bad
        return ""

    def _starts(self, running: Running) -> dict[str, Starts]:
        current = self._deployer.live.get(running.owner)
        revision = running.revision
        starts = {}
        for spec in revision.manifest.functions:
            new = self._pools.get(PoolKey(revision.app, spec.name, revision.id))
            old = current and self._pools.get(PoolKey(revision.app, spec.name, current.revision.id))
            # A function without a URL may fail at a deploy, too (trial.py).
            if new is not None and spec.web:
                starts[spec.name] = Starts(new=new.failures, old=old.failures if old else 0)
        return starts

    async def _read_again(self, running: Running) -> None:
        """Count the requests since the canary's begin that an earlier server has kept."""
        since = running.row.began_at

        def wants(line: Line, _app: str, _tag: str) -> bool:
            return line[ENDPOINT] in running.sides and int(line[ENDED]) >= since * 1000

        scope = running.owner.scope
        records = await asyncio.to_thread(self._requests.search, scope, READ, wants, since)
        late, running.late = running.late or [], None
        ids = {record.request.id for record in records}
        for record in records:
            self._count(running, record.request, record.revision)
        for request, revision in late:
            if request.id not in ids:
                self._count(running, request, revision)

    async def _promote(self, running: Running) -> bool:
        row = running.row
        requests = sum(pair.new.requests for pair in running.pairs.values())
        failed = sum(pair.new.failed for pair in running.pairs.values())
        seconds = round(self._now() - row.began_at)
        reason = f"after {seconds} s, {requests} requests and {failed} failures of v{row.version}"
        work = self._promoted(running, reason)
        try:
            is_done = await self._deployer.in_turn("promote", running.owner, work)
        except (StorageError, IngressError) as error:
            log.warning("the canary of %s is not promoted yet: %s", running.owner, error.message)
            return False
        except Failure as failure:
            return await self._roll_back(running, f"it cannot be promoted: {failure.message}")
        if is_done:
            await self._note(running, "promote", f"v{row.version}: {reason}")
        return True

    async def _roll_back(self, running: Running, reason: str) -> bool:
        work = self._rolled_back(running, reason)
        if await self._deployer.in_turn("rollback", running.owner, work):
            await self._note(running, "rollback", f"v{running.row.version}: {reason}")
        return True

    async def _promoted(self, running: Running, reason: str) -> bool:
        """Promote a canary, unless something else has become of it meanwhile."""
        current = self._deployer.live.get(running.owner)
        if current is None or self._canaries.of(running.owner) is not running:
            return False
        await self._canaries.promote(running.owner, current, reason)
        return True

    async def _rolled_back(self, running: Running, reason: str) -> bool:
        current = self._deployer.live.get(running.owner)
        if self._canaries.of(running.owner) is not running:
            return False
        return await self._canaries.end(running.owner, current, reason) is not None

    async def _note(self, running: Running, kind: str, reason: str) -> None:
        """Write into the app's history, and into the audit log, what the server did by itself."""
        owner = running.owner
        if self._history is not None:
            number = await self._history.begin(owner.scope, owner.name, kind, by="server")
            await self._history.end(number, OK, reason=reason)
        if self._audit is not None:
            entry = AuditEntry(
                by="server",
                action=f"app {kind}",
                result="ok",
                workspace=owner.scope.workspace,
                environment=owner.scope.environment,
                app=owner.name,
                target=f"{owner.name} v{running.row.version}",
            )
            await self._audit.add(entry)
