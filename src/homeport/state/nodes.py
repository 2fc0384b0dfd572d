"""The machines that have joined this homeport, and the tokens with which others may.

A machine may connect only while it is in here, with the id of its certificate: to remove the row is to revoke it.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, field, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from homeport.contract import labels
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists, NotFound, Unauthorized
from homeport.state import tables
from homeport.state.database import Database

_T, _TOKENS = tables.nodes, tables.node_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A machine."""

    name: str
    id: str  # in its certificate: another one each time that it joins
    joined_at: float
    drained: bool = False  # it gets no new containers
    generation: int = 0  # orders of earlier generations are fenced
    away: bool = False  # it was given up, and has not been back since
    labels: dict[str, str] = field(default_factory=dict)  # such as its region


class Nodes:
    """All of them, in memory too, because each connection asks."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._rows: dict[str, NodeRow] = {}
        self._labelling = asyncio.Lock()

    async def load(self) -> None:
        """Read all rows; called once."""
        rows = await self._database.read(lambda c: list(c.execute(select(_T)).mappings()))
        self._rows = {row["name"]: _of(row) for row in rows}

    def all(self) -> list[NodeRow]:
        """Return every machine, by name."""
        return [self._rows[name] for name in sorted(self._rows)]

    def get(self, name: str) -> NodeRow:
        """Return a machine; `NotFound` if there is none of that name."""
        if (row := self._rows.get(name)) is None:
            raise NotFound(
                f"there is no node `{name[:60]}`", hint="`homeport node list` has those that joined"
            )
        return row

    def id_of(self, name: str) -> str | None:
        """Return the id of a machine; None if there is none of that name."""
        row = self._rows.get(name)
        return None if row is None else row.id

    async def add_token(self, digest: str, valid_s: float) -> None:
        """Save a token's digest; forget those that are too old."""
        now = self._clock()

        def work(connection: Connection) -> None:
            connection.execute(delete(_TOKENS).where(_TOKENS.c.expires_at <= now))
            connection.execute(insert(_TOKENS).values(digest=digest, expires_at=now + valid_s))

        await self._database.write(work)

    async def join(
        self,
        digest: str,
        name: str,
        id: str,  # noqa: A002 - the row's
        given_labels: Mapping[str, str] | None = None,
    ) -> None:
        """Use up a token and save the machine: both, or nothing.

        `Unauthorized` for a token that is unknown, was used, or is too old; `AlreadyExists` for a name that is taken.
        """
        row = NodeRow(
            name=name, id=id, joined_at=self._clock(), labels=labels.check(given_labels or {})
        )

        def work(connection: Connection) -> None:
            conditions = _TOKENS.c.digest == digest, _TOKENS.c.expires_at > row.joined_at
            if not connection.execute(delete(_TOKENS).where(*conditions)).rowcount:
                raise Unauthorized("the token is unknown, was used, or is too old")
            if connection.execute(select(_T.c.name).where(_T.c.name == name)).first() is not None:
                raise AlreadyExists(
                    f"there is a node `{name}` already: choose another name, or remove it first"
                )
            values = {**asdict(row), "drained": 0, "away": 0, "labels": json.dumps(row.labels)}
            connection.execute(insert(_T).values(**values))

        await self._database.write(work)
        self._rows[name] = row

    async def drain(self, name: str, *, on: bool) -> None:
        """Note whether a machine gets new containers; `NotFound` if there is none of that name."""
        await self._change(self.get(name), {"drained": int(on)}, drained=on)

    async def label(self, name: str, changes: Mapping[str, str]) -> NodeRow:
        """Change labels of a machine, and return its row; an empty value removes a label.

        `NotFound` if there is none of that name, `BadRequest` for what cannot be a label.
        """
        async with self._labelling:  # the labels of two changes at once are both kept
            row = self.get(name)
            chosen = {**row.labels, **changes}
            chosen = labels.check({label: value for label, value in chosen.items() if value})
            return await self._change(row, {"labels": json.dumps(chosen)}, labels=chosen)

    async def note(self, name: str, generation: int, *, away: bool) -> None:
        """Note that a machine was given up, and what is fenced there from now on; or that it is back.

        A machine that was removed meanwhile is ignored.
        """
        if (row := self._rows.get(name)) is None:
            return
        values = {"generation": generation, "away": int(away)}
        with contextlib.suppress(NotFound):
            await self._change(row, values, generation=generation, away=away)

    async def remove(self, name: str) -> None:
        """Forget a machine: from now on its certificate opens nothing. `NotFound` if there is none of that name."""
        row = self.get(name)
        del self._rows[name]  # first, so that it cannot connect meanwhile
        try:
            await self._database.write(lambda c: c.execute(delete(_T).where(_T.c.name == name)))
        except BaseException:
            self._rows[name] = row
            raise

    async def _change(self, row: NodeRow, values: Mapping[str, Any], **fields: Any) -> NodeRow:
        """Save a change of a machine; `NotFound` if it was removed meanwhile: it must not come back by this."""
        query = update(_T).where(_T.c.name == row.name, _T.c.id == row.id).values(**values)
        await self._database.write(lambda c: c.execute(query))
        current = self._rows.get(row.name)  # another change may have ended meanwhile
        if current is None or current.id != row.id:
            raise NotFound(f"the node `{row.name}` was removed meanwhile")
        self._rows[row.name] = replace(current, **fields)
        return self._rows[row.name]


def _of(row: Mapping[Any, Any]) -> NodeRow:
    flags = {"drained": bool(row["drained"]), "away": bool(row["away"])}
    return NodeRow(**{**row, **flags, "labels": json.loads(row["labels"])})
