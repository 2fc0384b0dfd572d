"""A pool's backend: the containers in it, and what HAProxy says of them."""

from dataclasses import dataclass, field

from homeport.contract.traffic import Load
from homeport.ingress import config, rules
from homeport.ingress.config import Server
from homeport.ingress.runtime import Row

LOW = 4  # fewer than that left: double the supply


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
        """Whether there should be more."""
        return len(self.free) <= LOW

    def double(self) -> None:
        """As many again; HAProxy does not have them yet."""
        self.free += self._names(self.count, 2 * self.count)
        self.count *= 2

    def halve(self) -> None:
        """Take `double` back."""
        self.count //= 2
        self.free = [name for name in self.free if self._number(name) < self.count]

    def leave_out(self, taken: set[str]) -> None:
        """Have enough beside those that an earlier server gave away."""
        numbers = [self._number(name) for name in taken if name.startswith(self.prefix)]
        self.count = max([self.count, *(2 * (number + 1) for number in numbers)])
        self.free = [name for name in self._names(0, self.count) if name not in taken]

    def _names(self, first: int, end: int) -> list[str]:
        return [config.backend_name(self.prefix, number) for number in range(first, end)]

    def _number(self, name: str) -> int:
        return int(name.removeprefix(self.prefix))


@dataclass(slots=True)
class Backend:
    """What is in it, and what it has counted."""

    backend: str  # its name
    servers: dict[str, Server] = field(default_factory=dict)
    settled_at: dict[str, float] = field(default_factory=dict)  # draining: ready to go from then
    aliases: dict[str, None] = field(default_factory=dict)
    served_before: int = 0  # by processes that have ended
    errors_before: int = 0
    last: Load = field(default_factory=Load)

    @property
    def open(self) -> bool:
        """Whether a server takes new requests."""
        return any(server.open for server in self.servers.values())


def load(pool: Backend, rows: list[Row], unknown: frozenset[str]) -> Load:
    """The pool's load; its counters never go back, whichever process counted.

    A container that an old process may still have requests in is never told to be idle.
    """
    whole = [row for row in rows if row.server == "BACKEND"]
    again = [
        row for row in rows if row.server in rules.WAYS_BACK
    ]  # they are counted where they end
    each = [row for row in rows if row.server not in ("BACKEND", *rules.WAYS_BACK)]
    served = sum(r.served for r in whole) - sum(r.served for r in again)
    errors = sum(r.errors for r in whole) - sum(r.errors for r in again)
    last = pool.last
    if served + pool.served_before < last.served:
        pool.served_before = last.served - served
    if errors + pool.errors_before < last.errors:
        pool.errors_before = last.errors - errors
    per_container: dict[str, int] = {}
    for row in each:
        per_container[row.server] = row.running + (row.server in unknown)
    pool.last = Load(
        running=sum(row.running for row in each),
        queued=sum(row.queued for row in rows),
        served=served + pool.served_before,
        errors=errors + pool.errors_before,
        per_container=per_container,
    )
    return pool.last
