"""A pool's backend: its containers, and the load that HAProxy reports for them."""

from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.traffic import Load
from homeport.ingress import config, rules
from homeport.ingress.config import Server
from homeport.ingress.runtime import Row

LOW = 4  # double the supply when no more free backends than this are left


@dataclass(slots=True)
class Supply:
    """Interchangeable backends of one kind: `<prefix>0` and so on."""

    prefix: str
    count: int  # in HAProxy's configuration
    free: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = self._names(0, self.count)

    @property
    def low(self) -> bool:
        """True if the supply should be doubled."""
        return len(self.free) <= LOW

    def double(self) -> None:
        """Double the backends; HAProxy has the new ones after its next reload."""
        self.free += self._names(self.count, 2 * self.count)
        self.count *= 2

    def halve(self) -> None:
        """Take `double` back."""
        self.count //= 2
        self.free = [name for name in self.free if self._number(name) < self.count]

    def leave_out(self, taken: set[str]) -> None:
        """Mark backends as taken that pools of an earlier server have, and keep enough others."""
        numbers = [self._number(name) for name in taken if name.startswith(self.prefix)]
        self.count = max([self.count, *(2 * (number + 1) for number in numbers)])
        self.free = [name for name in self._names(0, self.count) if name not in taken]

    def _names(self, first: int, end: int) -> list[str]:
        return [config.backend_name(self.prefix, number) for number in range(first, end)]

    def _number(self, name: str) -> int:
        return int(name.removeprefix(self.prefix))


@dataclass(slots=True)
class Backend:
    """A pool's servers in HAProxy and the counters of its load."""

    backend: str  # the backend's name
    servers: dict[str, Server] = field(default_factory=dict)
    #: Draining container -> the time, of time.monotonic(), from which it may be detached.
    settled_at: dict[str, float] = field(default_factory=dict)
    aliases: dict[str, None] = field(default_factory=dict)
    served_before: int = 0  # requests that ended processes served
    errors_before: int = 0
    last: Load = field(default_factory=Load)

    @property
    def open(self) -> bool:
        """True if a server of the backend takes new requests."""
        return any(server.open for server in self.servers.values())


def load(pool: Backend, rows: list[Row], unknown: frozenset[str]) -> Load:
    """Return the pool's load; its counters never decrease, also after a reload of HAProxy.

    `unknown` are containers that may still have requests of an old process: they never count as idle.
    """
    whole = [row for row in rows if row.server == "BACKEND"]
    reentry_rows = [
        row for row in rows if row.server == rules.AGAIN
    ]  # counted again where they end
    server_rows = [row for row in rows if row.server not in ("BACKEND", rules.AGAIN)]
    served = sum(r.served for r in whole) - sum(r.served for r in reentry_rows)
    errors = sum(r.errors for r in whole) - sum(r.errors for r in reentry_rows)
    last = pool.last
    if served + pool.served_before < last.served:
        pool.served_before = last.served - served
    if errors + pool.errors_before < last.errors:
        pool.errors_before = last.errors - errors
    per_container: dict[str, int] = {}
    served_by: dict[str, int] = {}
    for row in server_rows:
        served_by[row.server] = row.served
        per_container[row.server] = row.running + (row.server in unknown)
    pool.last = Load(
        running=sum(row.running for row in server_rows),
        queued=sum(row.queued for row in rows),
        served=served + pool.served_before,
        errors=errors + pool.errors_before,
        per_container=per_container,
        served_by=served_by,
    )
    return pool.last
