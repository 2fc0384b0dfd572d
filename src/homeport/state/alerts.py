"""Alerts, how they are, and their messages that were not delivered yet.

A change of an alert and its message are one transaction: a message is lost neither by a crash nor by a webhook that does
not answer. The alerts are in memory too, because the loop that watches asks for them each time.
"""

import dataclasses
import json
import time
from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select, update

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.numbers import Numbers
from homeport.state.scope import Placed, Scope
from homeport.state.vault import Vault

MOST = 50  # of an environment
MOST_MESSAGES = 50  # of an alert that wait; the oldest go
_T, _M = tables.alerts, tables.alert_messages


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow(Placed):
    """An alert."""

    name: str
    kind: str
    app: str
    tag: str
    threshold: float
    window_s: float
    url: bytes  # sealed
    trusted: int
    created_at: float
    state: str
    since: float
    good_since: float | None
    told: str

    @property
    def key(self) -> tuple[Scope, str]:
        """Its name, and whose it is."""
        return self.scope, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow(Placed):
    """A message of an alert."""

    id: int
    alert: str
    at: float
    body: str
    tries: int
    next_at: float
    error: str

    @property
    def key(self) -> tuple[Scope, str]:
        """The alert that it is of."""
        return self.scope, self.alert


class Alerts:
    """The alerts of all environments."""

    def __init__(
        self, database: Database, vault: Vault, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._vault = vault
        self._now = now
        self._numbers = Numbers(_M.c.id)
        self._all: dict[tuple[Scope, str], AlertRow] = {}
        self.changed: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """Read the rows."""
        rows = await self._database.read(lambda c: list(c.execute(select(_T)).mappings()))
        self._all = {row.key: row for row in (AlertRow(**fields) for fields in rows)}

    def all(self) -> list[AlertRow]:
        """Return every alert."""
        return list(self._all.values())

    def of(self, scope: Scope) -> list[AlertRow]:
        """Return the alerts of an environment, by their names."""
        return sorted(
            (row for row in self._all.values() if row.scope == scope), key=lambda row: row.name
        )

    def find(self, scope: Scope, name: str) -> AlertRow:
        """Return an alert; `NotFound` for an unknown one."""
        if (row := self._all.get((scope, name))) is None:
            raise NotFound(
                f"there is no alert `{name[:80]}`", hint="`homeport alert list` shows them"
            )
        return row

    async def add(self, row: AlertRow, url: str) -> AlertRow:
        """Keep an alert, with its URL sealed."""
        if row.key in self._all:
            raise AlreadyExists(f"there is an alert `{row.name}` already", hint="remove it first")
        if len(self.of(row.scope)) >= MOST:
            raise BadRequest(f"an environment can have {MOST} alerts")
        row = dataclasses.replace(row, url=self._vault.seal(_sealed(row), {"url": url}))
        await self._database.write(lambda c: c.execute(insert(_T).values(**_values(row))))
        self._all[row.key] = row
        self.changed()
        return row

    async def remove(self, scope: Scope, name: str) -> None:
        """Remove an alert and its messages."""
        row = self.find(scope, name)

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(tables.here(_T, scope), _T.c.name == name))
            connection.execute(delete(_M).where(tables.here(_M, scope), _M.c.alert == name))

        await self._database.write(work)
        self._all.pop(row.key, None)
        self.changed()

    def drop(self, scope: Scope) -> None:
        """Drop the alerts of an environment whose rows were deleted."""
        self._all = {key: row for key, row in self._all.items() if key[0] != scope}

    def url(self, row: AlertRow) -> str:
        """Return the URL that an alert's messages go to."""
        return self._vault.open(_sealed(row), row.url)["url"]

    def secret(self, row: AlertRow) -> str:
        """Return the key of the HMAC of an alert's messages; it is not kept, but always the same."""
        return self._vault.digest(f"webhook {_sealed(row)}")

    async def become(self, row: AlertRow, body: dict[str, object] | None) -> None:
        """Save the state of an alert, and the message about it."""
        now = self._now()
        this_row = (tables.here(_T, row.scope), _T.c.name == row.name)
        values = {name: getattr(row, name) for name in ("state", "since", "good_since", "told")}

        def work(connection: Connection) -> None:
            changed = connection.execute(update(_T).where(*this_row).values(**values))
            if body is None or not changed.rowcount:
                return
            message = MessageRow(
                workspace=row.workspace,
                environment=row.environment,
                id=self._numbers.take(connection),
                alert=row.name,
                at=now,
                body=json.dumps({"id": f"{row.name}-{int(now * 1000)}", **body}),
                tries=0,
                next_at=now,
                error="",
            )
            connection.execute(insert(_M).values(**_values(message)))
            here = (tables.here(_M, row.scope), _M.c.alert == row.name)
            last = select(_M.c.id).where(*here).order_by(_M.c.id.desc())
            if (old := connection.scalar(last.offset(MOST_MESSAGES).limit(1))) is not None:
                connection.execute(delete(_M).where(*here, _M.c.id <= old))

        await self._database.write(work)
        if row.key in self._all:
            self._all[row.key] = row

    async def messages(self) -> list[MessageRow]:
        """Return the messages that wait, the oldest first."""
        query = select(_M).order_by(_M.c.id)
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [MessageRow(**row) for row in rows]

    async def delivered(self, message: MessageRow) -> None:
        """Forget a message that was delivered, or is given up."""
        query = delete(_M).where(_M.c.id == message.id)
        await self._database.write(lambda c: c.execute(query))

    async def failed(self, message: MessageRow, error: str, next_at: float) -> None:
        """Note that a delivery has failed, and when to try again."""
        values = {"tries": message.tries + 1, "error": error, "next_at": next_at}
        query = update(_M).where(_M.c.id == message.id).values(**values)
        await self._database.write(lambda c: c.execute(query))


def _sealed(row: AlertRow) -> str:
    return f"alert {row.scope} {row.name} {row.created_at}"


def _values(row: AlertRow | MessageRow) -> dict[str, object]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
