"""A pool's backend: the containers in it, and what HAProxy says of them."""

from dataclasses import dataclass, field

from homeport.contract.traffic import Load
from homeport.ingress import config
from homeport.ingress.config import Server
from homeport.ingress.runtime import Row


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
        return any(not server.draining for server in self.servers.values())


def load(pool: Backend, rows: list[Row], unknown: frozenset[str]) -> Load:
    """The pool's load; its counters never go back, whichever process counted.

    A container that an old process may still have requests in is never told to be idle.
    """
    whole = [row for row in rows if row.server == "BACKEND"]
    again = [row for row in rows if row.server == config.AGAIN]  # they are counted where they end
    each = [row for row in rows if row.server not in ("BACKEND", config.AGAIN)]
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
