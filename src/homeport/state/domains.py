"""Domains that `homeport domain add` has attached to deployed apps."""

from dataclasses import asdict

from sqlalchemy import delete, insert, select

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import Placed, Scope

_T = tables.domains
_ALL = select(_T)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRow(Placed):
    """A domain of an app's endpoint. It stays while the app is redeployed or stopped."""

    domain: str  # lower case, IDNA; may begin with `*.`
    app: str
    tag: str  # of the endpoint: a function, or `Class.method`
    created_at: float


class Domains:
    """The attached domains of all environments, in memory too, because each plan of a revision asks for them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, DomainRow] = {}

    async def load(self) -> None:
        """Read all rows; called once."""
        rows = await self._database.read(lambda c: list(c.execute(_ALL).mappings()))
        self._rows = {row["domain"]: DomainRow(**row) for row in rows}

    def all(self) -> list[DomainRow]:
        """Return every attached domain, by name."""
        return [self._rows[name] for name in sorted(self._rows)]

    def get(self, domain: str) -> DomainRow | None:
        """Return a domain's row; None if it is not attached."""
        return self._rows.get(domain)

    def of(self, scope: Scope, app: str, tag: str) -> tuple[str, ...]:
        """Return the domains of an endpoint."""
        endpoint = (scope, app, tag)
        rows = self._rows.values()
        return tuple(sorted(r.domain for r in rows if (r.scope, r.app, r.tag) == endpoint))

    async def add(self, row: DomainRow) -> None:
        """Save a domain."""
        if row.domain in self._rows:
            raise AlreadyExists(f"the domain `{row.domain}` is attached already")
        self._rows[row.domain] = row  # first, so that no other request adds it meanwhile
        try:
            await self._database.write(lambda c: c.execute(insert(_T).values(**asdict(row))))
        except BaseException:
            self._rows.pop(row.domain, None)
            raise

    async def remove(self, domain: str) -> None:
        """Forget a domain."""
        await self._database.write(lambda c: c.execute(delete(_T).where(_T.c.domain == domain)))
        self._rows.pop(domain, None)

    def drop(self, scope: Scope) -> None:
        """Drop the domains of an environment whose rows were deleted."""
        self._rows = {name: row for name, row in self._rows.items() if row.scope != scope}
