"""Domains that `homeport domain add` has attached to deployed apps."""

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select

from homeport.contract.errors import AlreadyExists
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import MAIN, Scope

_T = tables.domains


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRow:
    """A domain of an app's endpoint. It stays while the app is redeployed or stopped."""

    domain: str  # lower case, IDNA; may begin with `*.`
    app: str
    tag: str  # of the endpoint: a function, or `Class.method`
    created_at: float
    workspace: str = MAIN.workspace
    environment: str = MAIN.environment

    @property
    def scope(self) -> Scope:
        """Return where the app is."""
        return Scope(workspace=self.workspace, environment=self.environment)


class Domains:
    """The attached domains of all environments, in memory too, because each plan of a revision asks for them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, DomainRow] = {}

    async def load(self) -> None:
        """Read all rows; called once."""
        rows = await self._database.read(lambda c: list(c.execute(select(_T)).mappings()))
        self._rows = {row["domain"]: DomainRow(**row) for row in rows}

    def all(self) -> list[DomainRow]:
        """Return every attached domain, by name."""
        return [self._rows[name] for name in sorted(self._rows)]

    def get(self, domain: str) -> DomainRow | None:
        """Return a domain's row; None if it is not attached."""
        return self._rows.get(domain)

    def of(self, app: str, tag: str, scope: Scope = MAIN) -> tuple[str, ...]:
        """Return the domains of an endpoint."""
        found = (row for row in self._rows.values() if (row.app, row.tag) == (app, tag))
        return tuple(sorted(row.domain for row in found if row.scope == scope))

    async def add(self, row: DomainRow) -> None:
        """Save a domain."""
        if row.domain in self._rows:
            raise AlreadyExists(f"the domain `{row.domain}` is attached already")
        self._rows[row.domain] = row  # first, so that nobody else adds it meanwhile
        try:
            await self._database.write(lambda c: c.execute(insert(_T).values(**asdict(row))))
        except BaseException:
            self._rows.pop(row.domain, None)
            raise

    async def remove(self, domain: str) -> None:
        """Forget a domain."""
        await self._database.write(lambda c: c.execute(delete(_T).where(_T.c.domain == domain)))
        self._rows.pop(domain, None)
