"""Keeps a certificate for each host that is wanted: carries out what `orders` decides.

A supervised loop: compare wanted hosts with held certificates, start orders as tasks, sleep until something changes or is
due. Started by `stages`; `wake` is called after each change of endpoints or domains. Rows are in `state/certificates`,
the private keys in the ingress's files.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509

from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.hosts import covers
from homeport.contract.roles import Ingress
from homeport.control.certificates import orders
from homeport.control.certificates.orders import Held, Issued, Kind, Order, Policy, Tried
from homeport.control.certificates.problems import OrderFailed, shown
from homeport.control.certificates.source import Source
from homeport.state.certificates import CertificateRow, Certificates, IssueRow, TryRow
from homeport.supervised import Tasks, supervised

LONGEST_SLEEP_S = 3600.0  # the clock may be set
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 3600.0

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
    """The certificates of this server."""

    def __init__(
        self,
        rows: Certificates,
        ingress: Ingress,
        source: Source,
        policy: Policy,
        wanted: Callable[[], Mapping[str, Kind]],
        *,
        is_kept: Callable[[str], bool] = lambda _name: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`is_kept`: whether the ingress has the file of a certificate."""
        self._rows = rows
        self._ingress = ingress
        self._source = source
        self._policy = policy
        self._wanted = wanted
        self._is_kept = is_kept
        self._clock = clock
        self._held: dict[str, CertificateRow] = {}
        self._tries: dict[str, TryRow] = {}
        self._issues: list[IssueRow] = []
        self._forced: set[str] = set()
        self._running: dict[str, tuple[str, ...]] = {}  # name -> hosts
        self._waiting: Mapping[str, str] = {}
        self._paused_until = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._trouble: OrderFailed | None = None  # of the CA itself
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    async def load(self) -> None:
        """Read the rows; a certificate whose file has gone is ordered again."""
        for row in await self._rows.all():
            if await asyncio.to_thread(self._is_kept, row.name):
                self._held[row.name] = row
            else:
                log.warning("the certificate of %s has no file any more", ", ".join(row.hosts))
                await self._rows.remove(row.name)
        self._tries = {row.host: row for row in await self._rows.tries()}
        self._issues = await self._rows.issues(self._clock() - orders.WEEK_S)

    def open(self) -> None:
        """Start the loop."""
        self._tasks.start("certificates", supervised("certificates", self._loop))

    async def close(self) -> None:
        """End the loop and the orders, which a later server goes on with."""
        await self._tasks.close()

    def wake(self) -> None:
        """Look at the wanted hosts again."""
        self._changed.set()

    def states(self) -> list[HostState]:
        """Return every host that is wanted or has a certificate, by name."""
        wanted = self._wanted()
        old = {host for row in self._held.values() for host in row.hosts}
        hosts = set(wanted) | {host for host in old if not covers(list(wanted), host)}
        return [self.state(host) for host in sorted(hosts)]

    def state(self, host: str) -> HostState:
        """Return what is known about a host's certificate."""
        row = self._best(host)
        names = [n for n in orders.needed({host: Kind.MAIN}, self._policy) if n != host] or [host]
        tried = next((t for n in (host, *names) if (t := self._tries.get(n))), None)
        running = any(covers(hosts, host) for hosts in self._running.values())
        waiting = next((w for n in (host, *names) if (w := self._waiting.get(n))), "")
        error, hint = (tried.error, tried.hint) if tried else ("", "")
        next_try = tried.next_at if tried else None
        valid = row is not None and row.not_after > self._clock()
        if not valid and not tried and self._trouble is not None:
            error, hint = self._trouble.message, self._trouble.hint
            next_try = self._paused_until
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
        """Order a host's certificate now, also if its last order failed; the CA's limits hold."""
        if host not in self._wanted() and self._best(host) is None:
            raise NotFound(
                f"there is no certificate for `{host}`",
                hint="`homeport certificate list` names the hosts",
            )
        row = self._best(host)
        if row is not None and row.unwanted_since is not None:
            raise BadRequest(f"no app wants `{host}` any more", hint="deploy the app again")
        hosts = row.hosts if row else tuple(orders.needed({host: Kind.MAIN}, self._policy))
        await self._rows.forgive(hosts)
        for each in hosts:
            if (tried := self._tries.get(each)) is not None:
                # Failed validations of the last hour still count for the limits.
                self._tries[each] = dataclasses.replace(tried, next_at=0.0)
        if row is not None:
            self._forced.add(row.name)
        self._paused_until = 0.0
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
        """Compare, and start what is to be done; return when to look again."""
        decision = orders.decide(self._situation(), self._policy)
        self._waiting = decision.waiting
        now = self._clock()
        for name in decision.unwanted:
            await self._put(dataclasses.replace(self._held[name], unwanted_since=now))
        for name in decision.wanted_again:
            await self._put(dataclasses.replace(self._held[name], unwanted_since=None))
        for name in decision.removed:
            await self._ingress.remove_certificate(name)
            await self._rows.remove(name)
            row = self._held.pop(name)
            log.info("removed the certificate of %s, which no app wants", ", ".join(row.hosts))
        for order in decision.orders:
            self._running[order.name] = order.hosts
            self._tasks.start(f"the certificate of {order.hosts[0]}", self._order(order))
        return decision.look_at

    def _situation(self) -> orders.Situation:
        now = self._clock()
        return orders.Situation(
            wanted=self._wanted(),
            held=[_held(row, renew_now=row.name in self._forced) for row in self._held.values()],
            tried={
                host: Tried(failures=t.failures, failed_at=t.failed_at, next_at=t.next_at)
                for host, t in self._tries.items()
            },
            issued=[Issued(hosts=i.hosts, at=i.at, renewal=i.renewal) for i in self._issues],
            running=list(self._running),
            now=now,
            paused_until=self._paused_until,
        )

    async def _order(self, order: Order) -> None:
        """Order a certificate, give it to the ingress, and save that."""
        began = time.monotonic()
        try:
            row, pem = await _issued(self._source, order, self._held.get(order.name))
            await self._ingress.certificate(order.name, pem, order.hosts)
            self._held[order.name] = row  # also if it cannot be saved: another order would not help
            now = self._clock()
            issue = IssueRow(name=order.name, at=now, hosts=order.hosts, renewal=order.renewal)
            await self._rows.issued(row, issue, forget=now - orders.WEEK_S)
            self._source.forget(order.name)
            self._issues = [i for i in self._issues if i.at > now - orders.WEEK_S] + [issue]
            self._forced.discard(order.name)
            self._paused_until, self._pause_s, self._trouble = 0.0, FIRST_PAUSE_S, None
            for host in order.hosts:
                self._tries.pop(host, None)
            log.info(
                "got the certificate of %s in %.1f s",
                ", ".join(order.hosts),
                time.monotonic() - began,
            )
        except (Failure, OrderFailed) as error:
            await self._failed(order, error)
        except Exception as error:
            log.exception("the order for %s failed", ", ".join(order.hosts))
            await self._failed(order, OrderFailed(f"{type(error).__name__}: {shown(error)}"))
        finally:
            self._running.pop(order.name, None)
            self.wake()

    async def _failed(self, order: Order, error: Failure | OrderFailed) -> None:
        """Remember the failure, so that the hosts wait; the hosts that it names, if it names some."""
        log.warning("no certificate for %s yet: %s", ", ".join(order.hosts), error.message)
        self._forced.discard(order.name)
        told = (
            error if isinstance(error, OrderFailed) else OrderFailed(error.message, hint=error.hint)
        )
        now = self._clock()
        if told.everywhere:
            self._trouble = told
            self._paused_until = max(now + self._pause_s, told.retry_at)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            # Not a failure of the hosts, and not saved: after the pause, others come first.
            for host in order.hosts:
                self._tries[host] = _later(host, self._tries.get(host), self._paused_until, told)
            return
        rows = []
        for host in [h for h in order.hosts if h in told.hosts] or order.hosts:
            before = self._tries.get(host)
            tried = orders.after_failure(
                Tried(failures=before.failures, failed_at=before.failed_at, next_at=before.next_at)
                if before
                else None,
                host,
                now,
                validated=told.validated,
                not_before=told.retry_at,
            )
            self._tries[host] = TryRow(
                host=host,
                failures=tried.failures,
                failed_at=tried.failed_at,
                next_at=tried.next_at,
                error=told.message,
                hint=told.hint,
            )
            rows.append(self._tries[host])
        await self._rows.failed(rows)

    async def _put(self, row: CertificateRow) -> None:
        await self._rows.put(row)
        self._held[row.name] = row

    def _best(self, host: str) -> CertificateRow | None:
        """Return the certificate of a host that is valid for the longest time."""
        found = [row for row in self._held.values() if covers(row.hosts, host)]
        return max(found, key=lambda row: (row.unwanted_since is None, row.not_after), default=None)


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
        if held is None or held.serial != row.serial:
            return row, pem
        source.forget(order.name)  # that order was over, and only not forgotten
        held = None


def _later(host: str, row: TryRow | None, at: float, told: OrderFailed) -> TryRow:
    """Return what to remember of a host that waits for the CA: it has not failed itself."""
    return TryRow(
        host=host,
        failures=row.failures if row else 0,
        failed_at=row.failed_at if row else (),
        next_at=max(row.next_at if row else 0.0, at),
        error=told.message,
        hint=told.hint,
    )


def read(name: str, pem: bytes, hosts: tuple[str, ...], source: str) -> CertificateRow:
    """Return what a certificate says of itself; `OrderFailed` if it is not for these hosts."""
    try:
        leaf, *_ = x509.load_pem_x509_certificates(pem)
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = {each.lower() for each in extension.value.get_values_for_type(x509.DNSName)}
    except (ValueError, x509.ExtensionNotFound) as error:
        raise OrderFailed(f"the certificate cannot be read: {shown(error)}") from None
    if not set(hosts) <= names:
        raise OrderFailed("the certificate is not for all hosts of the order")
    return CertificateRow(
        name=name,
        hosts=hosts,
        source=source,
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


def _held(row: CertificateRow, *, renew_now: bool = False) -> Held:
    return Held(
        name=row.name,
        hosts=row.hosts,
        not_before=row.not_before,
        not_after=row.not_after,
        serial=row.serial,
        unwanted_since=row.unwanted_since,
        renew_now=renew_now,
    )
