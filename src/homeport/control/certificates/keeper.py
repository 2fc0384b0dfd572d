"""Keeps a certificate for each host that is wanted: carries out what its source decides.

A supervised loop: compare wanted hosts with held certificates, start orders, sleep until something changes or is
due. `wake` is called after each change of endpoints, domains or tunnels. A source that needs nobody (`Source.at_once`)
gives a host its certificate before the host answers: `cover`. Rows are in `state/certificates`, the private keys in the
ingress's files.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.hosts import covers
from homeport.contract.roles import Ingress
from homeport.control.certificates import failures, orders
from homeport.control.certificates.failures import Failures
from homeport.control.certificates.problems import OrderFailed, shown
from homeport.control.certificates.reading import read
from homeport.control.certificates.situation import (
    WEEK_S,
    Held,
    Issued,
    Kind,
    Order,
    Situation,
)
from homeport.control.certificates.source import Source
from homeport.state.certificates import CertificateRow, Certificates, IssueRow, TryRow
from homeport.supervised import Tasks, supervised

LONGEST_SLEEP_S = 3600.0  # the clock may be set
UNNAMED = "acme"  # the source in rows of a homeport that did not distinguish CAs

#: Says which hosts want a certificate, and how important each is.
Wanted = Callable[[], Mapping[str, Kind]]
#: Returns the certificates in the ingress's files, by name; None: it is not known.
Kept = Callable[[], Mapping[str, Path] | None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """The certificate of one host."""

    host: str
    source: str
    state: str  # `valid`, `ordering`, `waiting`, `failed`, `unwanted`
    name: str = ""  # of the certificate; empty: there is none
    serial: str = ""
    not_after: float | None = None
    renew_at: float | None = None
    error: str = ""
    hint: str = ""
    next_try: float | None = None


class Keeper:
    """The certificates of this server. One class, because decisions, orders and lists look at the same rows."""

    def __init__(
        self,
        rows: Certificates,
        ingress: Ingress,
        source: Source,
        *,
        stored: Kept = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = rows
        self._ingress = ingress
        self._source = source
        self._stored = stored
        self._clock = clock
        self._wants: list[Wanted] = []
        self._held: dict[str, CertificateRow] = {}
        self._failures = Failures(rows, clock)
        self._issues: list[IssueRow] = []
        self._forced: set[str] = set()
        self._running: dict[str, tuple[str, ...]] = {}  # name -> hosts
        self._waiting: Mapping[str, str] = {}
        self._turn = (
            asyncio.Lock()
        )  # for decisions, and for orders of a source that needs no other party
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    def wants(self, wanted: Wanted) -> None:
        """Add a function that returns hosts that want a certificate."""
        self._wants.append(wanted)

    async def start(self) -> None:
        """Read the rows, and give the ingress its first certificates, before a request is answered."""
        await self._source.open()
        await self._load()
        await self.cover(self._wanted())

    async def _load(self) -> None:
        """Read the rows. A certificate whose file was deleted is ordered again; a file without a row is used."""
        files = await asyncio.to_thread(self._stored)
        for row in await self._rows.all():
            if files is None or row.name in files:
                source_name = self._source.name if row.source == UNNAMED else row.source
                self._held[row.name] = dataclasses.replace(row, source=source_name)
            else:
                log.warning("the certificate of %s has no file any more", ", ".join(row.hosts))
                await self._rows.remove(row.name)
        for name, path in (files or {}).items():
            if name not in self._held:
                try:
                    pem = await asyncio.to_thread(path.read_bytes)
                    self._held[name] = read(name, pem, (), source="")
                except (OSError, OrderFailed):
                    continue  # the ingress does not use it either
        ours = ("", self._source.name)
        await self._failures.load(ours)
        since = self._clock() - WEEK_S
        self._issues = [row for row in await self._rows.issues(since) if row.source in ours]

    def open(self) -> None:
        """Start the loop."""
        self._tasks.start("certificates", supervised("certificates", self._loop))

    async def close(self) -> None:
        """End the loop and the orders; a later server continues the orders."""
        await self._tasks.close()

    async def cover(self, hosts: Collection[str]) -> None:
        """Return when these hosts have certificates, if their source needs no other party. Never raises for a host."""
        if not self._source.at_once:
            return
        wanted = dict.fromkeys((host.lower() for host in hosts), Kind.MAIN)
        async with self._turn:
            while any(not self._is_covered(host) for host in wanted):
                decision = await self._source.decide(self._situation(wanted))
                if not decision.orders:
                    return
                for order in decision.orders:
                    await self._order(order)

    def wake(self) -> None:
        """Look at the wanted hosts again."""
        self._changed.set()

    def states(self) -> list[HostState]:
        """Return every host that is wanted or has a certificate, by name."""
        wanted = self._wanted()
        earlier = {host for row in self._held.values() for host in row.hosts}
        hosts = set(wanted) | {host for host in earlier if not covers(list(wanted), host)}
        unread = [_unread(row, self._source.name) for row in self._failures.unnamed()]
        return [*(self.state(host) for host in sorted(hosts)), *unread]

    def state(self, host: str) -> HostState:
        """Return the state of a host's certificate."""
        row = self._best(host)
        names = [n for n in self._source.covering(host) if n != host] or [host]
        tried = self._failures.of(host, *names)
        running = any(covers(hosts, host) for hosts in self._running.values())
        waiting = next((w for n in (host, *names) if (w := self._waiting.get(n))), "")
        error, hint = (tried.error, tried.hint) if tried else ("", "")
        next_try = (
            (orders.next_try(failures.tried(tried), self._clock()) or None) if tried else None
        )
        valid = row is not None and row.not_after > self._clock()
        if not valid and not tried and (trouble := self._failures.trouble) is not None:
            error, hint = trouble.message, trouble.hint
            next_try = max(self._failures.paused_until, self._failures.asked_until)
        state = "failed" if error else "waiting"
        if row is not None and row.unwanted_since is not None:
            state = "unwanted"
        elif valid:
            state = "valid"
        elif running:
            state = "ordering"
        return HostState(
            host=host,
            source=row.source if row else self._source.name,
            state=state,
            name=row.name if row else "",
            serial=row.serial if row else "",
            not_after=row.not_after if row else None,
            renew_at=orders.renewed_at(_held(row)) if row else None,
            error=error or ("" if valid or running else waiting),
            hint=hint,
            next_try=None if running else next_try,
        )

    async def renew(self, host: str) -> HostState:
        """Order a host's certificate now, also if its last order failed; what the CA asks for and its limits hold."""
        if refusal := self._source.refusal():
            raise BadRequest(refusal)
        if host not in self._wanted() and self._best(host) is None:
            raise NotFound(
                f"there is no certificate for `{host}`",
                hint="`homeport certificate list` names the hosts",
            )
        row = self._best(host)
        if row is not None and row.unwanted_since is not None:
            raise BadRequest(f"no app wants `{host}` any more", hint="deploy the app again")
        hosts = row.hosts if row else self._source.covering(host)
        await self._failures.forgive(hosts)
        if row is not None:
            self._forced.add(row.name)
        self.wake()
        return self.state(host)

    async def _loop(self) -> None:
        while True:
            self._changed.clear()
            look_at = await self._step()
            wait_s = min(max(look_at - self._clock(), 0.05), LONGEST_SLEEP_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _step(self) -> float:
        """Compare, and start the orders that are due; return when to look again."""
        async with self._turn:
            decision = await self._source.decide(self._situation(self._wanted()))
            self._waiting = decision.waiting
            now = self._clock()
            for name in decision.unwanted:
                await self._put(dataclasses.replace(self._held[name], unwanted_since=now))
            for name in decision.wanted_again:
                await self._put(dataclasses.replace(self._held[name], unwanted_since=None))
            for name in decision.removed:
                self._failures.drop(name)
                if (row := self._held.get(name)) is not None:
                    await self._ingress.remove_certificate(name)
                    await self._rows.remove(name)
                    del self._held[name]
                    log.info("removed the certificate of %s", ", ".join(row.hosts))
            for order in decision.orders:
                if self._source.at_once:
                    await self._order(order)
                else:
                    self._running[order.name] = order.hosts
                    self._tasks.start(f"the certificate of {order}", self._order(order))
        return decision.look_at

    def _wanted(self) -> dict[str, Kind]:
        """Return the hosts that want a certificate."""
        kinds: dict[str, Kind] = {}
        for wanted in self._wants:
            for host, kind in wanted().items():
                name = host.lower()
                kinds[name] = min(kind, kinds.get(name, kind))
        return kinds

    def _is_covered(self, host: str) -> bool:
        """Return whether a host has a certificate of the present source that is valid."""
        return any(
            row.source == self._source.name
            and row.not_after > self._clock()
            and covers(row.hosts, host)
            for row in self._held.values()
        )

    def _situation(self, wanted: Mapping[str, Kind]) -> Situation:
        now, name = self._clock(), self._source.name
        return Situation(
            wanted=wanted,
            held=[
                _held(row, renew_now=row.name in self._forced, foreign=row.source != name)
                for row in self._held.values()
            ],
            tried=self._failures.tried(),
            issued=[Issued(hosts=i.hosts, at=i.at, renewal=i.renewal) for i in self._issues],
            running=list(self._running),
            now=now,
            paused_until=self._failures.paused_until,
            asked_until=self._failures.asked_until,
        )

    async def _order(self, order: Order) -> None:
        """Order a certificate, give it to the ingress, and save that."""
        began = time.monotonic()
        try:
            row, pem = await _issued(self._source, order, self._held.get(order.name))
            if not self._source.at_once:
                await self._count(order, row)
            await self._ingress.certificate(order.name, pem, order.hosts)
            self._held[order.name] = row  # also if it cannot be saved: another order would not help
            await self._rows.issued(row)
            self._source.forget(order.name)
            self._forced.discard(order.name)
            self._failures.succeeded(order)
            log.info(
                "got the certificate of %s in %.1f s",
                ", ".join(row.hosts),
                time.monotonic() - began,
            )
        except (Failure, OrderFailed) as error:
            await self._failed(order, error)
        except Exception as error:
            log.exception("the order for %s failed", order)
            await self._failed(order, OrderFailed(f"{type(error).__name__}: {shown(error)}"))
        finally:
            self._running.pop(order.name, None)
            self.wake()

    async def _count(self, order: Order, row: CertificateRow) -> None:
        """Save that the CA has issued this, before anything else: it counts, whatever becomes of it."""
        if any(issue.serial == row.serial for issue in self._issues):
            return  # an interrupted order continues later
        now = self._clock()
        issue = IssueRow(
            name=order.name,
            at=now,
            hosts=order.hosts,
            renewal=order.renewal,
            serial=row.serial,
            source=row.source,
        )
        self._issues = [i for i in self._issues if i.at > now - WEEK_S] + [issue]
        await self._rows.count(issue, forget=now - WEEK_S)

    async def _failed(self, order: Order, error: Failure | OrderFailed) -> None:
        self._forced.discard(order.name)
        is_renewal = order.name in self._held
        await self._failures.failed(order, error, self._source.name, is_renewal=is_renewal)

    async def _put(self, row: CertificateRow) -> None:
        await self._rows.put(row)
        self._held[row.name] = row

    def _best(self, host: str) -> CertificateRow | None:
        """Return the certificate of a host that is valid for the longest time."""
        candidates = [row for row in self._held.values() if covers(row.hosts, host)]
        return max(
            candidates, key=lambda row: (row.unwanted_since is None, row.not_after), default=None
        )


async def _issued(
    source: Source, order: Order, held: CertificateRow | None
) -> tuple[CertificateRow, bytes]:
    """Return a certificate that is not in use yet: a new one, or one whose order was interrupted."""
    while True:
        pem = await source.issue(order.name, order.hosts)
        try:
            row = read(order.name, pem, order.hosts, source.name)
        except OrderFailed:
            source.forget(order.name)
            raise
        if source.at_once or held is None or held.serial != row.serial:
            return row, pem
        source.forget(order.name)  # that order was over, and only not forgotten
        held = None


def _unread(row: TryRow, source: str) -> HostState:
    """Return what lists show of an order without hosts that failed."""
    return HostState(
        host=row.host,
        source=source,
        state="failed",
        error=row.error,
        hint=row.hint,
        next_try=row.next_at,
    )


def _held(row: CertificateRow, *, renew_now: bool = False, foreign: bool = False) -> Held:
    return Held(
        name=row.name,
        hosts=row.hosts,
        not_before=row.not_before,
        not_after=row.not_after,
        serial=row.serial,
        unwanted_since=row.unwanted_since,
        renew_now=renew_now,
        foreign=foreign,
    )
