"""Certificates: those that the ingress has, the failed orders of hosts, and the ones issued in the last week.

The private keys are files: of certificates in the home's `certificates/`, of orders in `acme/`. A row says what is in a
certificate, so that nothing must be read to decide about renewals.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, and_, delete, insert, or_, select

from homeport.contract.dataclass import dataclass
from homeport.state import tables
from homeport.state.database import Database

_C, _T, _I = tables.certificates, tables.certificate_tries, tables.certificate_issues


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """A certificate that was given to the ingress."""

    name: str
    hosts: tuple[str, ...]
    source: str  # where it came from: a word of `Source.name`
    serial: str  # in hexadecimal
    not_before: float
    not_after: float
    unwanted_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TryRow:
    """The failed orders of a host since its last success."""

    host: str
    failures: int
    failed_at: tuple[float, ...]
    next_at: float
    error: str
    hint: str
    retry_at: float = 0.0  # the CA has asked for no order before that; 0: it has not
    source: str = ""  # who refused it; empty: an earlier homeport has not noted that


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRow:
    """A certificate that was issued."""

    name: str
    at: float
    hosts: tuple[str, ...]
    renewal: bool
    #: In hexadecimal; empty: an earlier homeport has not noted that, nor the source.
    serial: str = ""
    source: str = ""


class Certificates:
    """The certificates of the server. They have no scope, because a host is unique among all environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[CertificateRow]:
        """Return every certificate."""
        rows = await self._database.read(lambda c: list(c.execute(select(_C)).mappings()))
        return [CertificateRow(**{**row, "hosts": tuple(json.loads(row["hosts"]))}) for row in rows]

    async def tries(self) -> list[TryRow]:
        """Return the hosts whose last order failed."""
        rows = await self._database.read(lambda c: list(c.execute(select(_T)).mappings()))
        return [TryRow(**{**row, "failed_at": tuple(json.loads(row["failed_at"]))}) for row in rows]

    async def issues(self, since: float) -> list[IssueRow]:
        """Return the certificates that were issued since then."""
        query = select(_I).where(_I.c.at > since)
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        return [
            IssueRow(
                name=row["name"],
                at=row["at"],
                hosts=tuple(json.loads(row["hosts"])),
                renewal=bool(row["renewal"]),
                serial=row["serial"],
                source=row["source"],
            )
            for row in rows
        ]

    async def count(self, issue: IssueRow, *, forget: float) -> None:
        """Save that a CA has issued a certificate. Those before `forget` go."""

        def work(connection: Connection) -> None:
            same = and_(_I.c.name == issue.name, _I.c.at == issue.at)
            connection.execute(delete(_I).where(or_(same, _I.c.at < forget)))
            values = {
                **asdict(issue),
                "hosts": json.dumps(issue.hosts),
                "renewal": int(issue.renewal),
            }
            connection.execute(insert(_I).values(**values))

        await self._database.write(work)

    async def issued(self, row: CertificateRow) -> None:
        """Save a new or renewed certificate; its hosts' failures are over."""

        def work(connection: Connection) -> None:
            _put(connection, row)
            connection.execute(delete(_T).where(_T.c.host.in_(row.hosts)))

        await self._database.write(work)

    async def put(self, row: CertificateRow) -> None:
        """Save a changed row."""
        await self._database.write(lambda c: _put(c, row))

    async def failed(self, rows: Sequence[TryRow]) -> None:
        """Save what became of the hosts of a failed order."""

        def work(connection: Connection) -> None:
            for row in rows:
                connection.execute(delete(_T).where(_T.c.host == row.host))
                values = {**asdict(row), "failed_at": json.dumps(row.failed_at)}
                connection.execute(insert(_T).values(**values))

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        """Forget a certificate."""
        await self._database.write(lambda c: c.execute(delete(_C).where(_C.c.name == name)))


def _put(connection: Connection, row: CertificateRow) -> None:
    connection.execute(delete(_C).where(_C.c.name == row.name))
    values = {**asdict(row), "hosts": json.dumps(row.hosts)}
    connection.execute(insert(_C).values(**values))
