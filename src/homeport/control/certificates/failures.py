"""Remembers the orders that failed, so that their hosts wait: each by itself, or all while the CA does not answer."""

import dataclasses
import logging
from collections.abc import Callable, Sequence

from homeport.contract.errors import Failure
from homeport.control.certificates import orders
from homeport.control.certificates.problems import OrderFailed
from homeport.control.certificates.situation import Order, Tried
from homeport.state.certificates import Certificates, TryRow

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 3600.0

log = logging.getLogger(__name__)


class Failures:
    """The failed orders since each host's last success."""

    def __init__(self, rows: Certificates, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock
        self._hosts: dict[str, TryRow] = {}
        self._unnamed: dict[str, TryRow] = {}  # order -> its failure, if it has no hosts
        self._told: dict[str, str] = {}  # order -> the error that the log has
        self._pause_s = FIRST_PAUSE_S
        self.trouble: OrderFailed | None = None  # of the CA itself
        self.paused_until = 0.0  # no order before that
        self.asked_until = 0.0  # the CA has asked for no order before that

    async def load(self, sources: Sequence[str]) -> None:
        """Read the rows of these sources: another CA's refusals say nothing."""
        self._hosts = {row.host: row for row in await self._rows.tries() if row.source in sources}

    def of(self, *hosts: str) -> TryRow | None:
        """Return the failure of the first of these hosts that has one."""
        return next((row for host in hosts if (row := self._hosts.get(host))), None)

    def unnamed(self) -> list[TryRow]:
        """Return the failures of orders without hosts."""
        return list(self._unnamed.values())

    def tried(self) -> dict[str, Tried]:
        """Return all of them as decisions need them: by host, or by the order's name."""
        return {key: tried(row) for key, row in (self._hosts | self._unnamed).items()}

    def succeeded(self, order: Order) -> None:
        """Forget the failures of an order, and those of the CA."""
        for host in order.hosts:
            self._hosts.pop(host, None)
        self._unnamed.pop(order.name, None)
        self._told.pop(order.name, None)
        self.paused_until, self.asked_until = 0.0, 0.0
        self._pause_s, self.trouble = FIRST_PAUSE_S, None

    def drop(self, name: str) -> None:
        """Forget the failure of an order without hosts, which will not be tried again."""
        self._unnamed.pop(name, None)
        self._told.pop(name, None)

    async def forgive(self, hosts: Sequence[str]) -> None:
        """Let hosts be tried at once; or when the CA allows it, if it has asked for a pause."""
        rows = [row for host in hosts if (row := self._hosts.get(host)) is not None]
        # Failed validations of the last hour still count for the limits.
        rows = [dataclasses.replace(row, next_at=row.retry_at) for row in rows]
        self._hosts.update({row.host: row for row in rows})
        self.paused_until = 0.0
        await self._rows.failed(rows)

    async def failed(
        self, order: Order, error: Failure | OrderFailed, source: str, *, is_renewal: bool
    ) -> None:
        """Remember a failure of the order's hosts; of those that it names, if it names some."""
        if self._told.get(order.name) != error.message:
            self._told[order.name] = error.message
            note = "; the one before stays" if is_renewal else ""
            log.warning("no certificate for %s yet: %s%s", order, error.message, note)
        failure = error
        if not isinstance(failure, OrderFailed):
            failure = OrderFailed(error.message, hint=error.hint)
        now = self._clock()
        if failure.everywhere:
            self.trouble = failure
            self.paused_until, self.asked_until = now + self._pause_s, failure.retry_at
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            # Not a failure of the hosts, and not saved: after the pause, others come first.
            for host in order.hosts:
                self._hosts[host] = _later(host, self._hosts.get(host), self.paused_until, failure)
        elif not order.hosts:
            before = self._unnamed.get(order.name)
            self._unnamed[order.name] = _after(order.label, before, failure, now, source)
        else:
            named = [host for host in order.hosts if host in failure.hosts] or order.hosts
            rows = [_after(host, self._hosts.get(host), failure, now, source) for host in named]
            self._hosts.update({row.host: row for row in rows})
            await self._rows.failed(rows)


def tried(row: TryRow) -> Tried:
    """Return a failure as decisions need it."""
    return Tried(
        failures=row.failures, failed_at=row.failed_at, next_at=row.next_at, retry_at=row.retry_at
    )


def _after(
    host: str, before: TryRow | None, failure: OrderFailed, now: float, source: str
) -> TryRow:
    """Return what to remember of a failed order."""
    last_try = tried(before) if before else None
    after = orders.after_failure(
        last_try, host, now, validated=failure.validated, not_before=failure.retry_at
    )
    return TryRow(
        host=host,
        failures=after.failures,
        failed_at=after.failed_at,
        next_at=after.next_at,
        error=failure.message,
        hint=failure.hint,
        retry_at=after.retry_at,
        source=source,
    )


def _later(host: str, row: TryRow | None, at: float, failure: OrderFailed) -> TryRow:
    """Return what to remember of a host that waits for the CA: it has not failed itself."""
    return TryRow(
        host=host,
        failures=row.failures if row else 0,
        failed_at=row.failed_at if row else (),
        next_at=max(row.next_at if row else 0.0, at),
        error=failure.message,
        hint=failure.hint,
        retry_at=failure.retry_at,
    )
