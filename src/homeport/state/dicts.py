"""Dicts: keys and values that containers share, in the database.

Keys and values are bytes, which only containers read. An entry is removed after seven days without a use.
"""

import functools
import hashlib
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)

from homeport.contract.errors import BadRequest
from homeport.contract.sizes import MIB
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.inserting import insert_for
from homeport.state.objects import Objects
from homeport.state.ready import Ready
from homeport.state.scope import MAIN, Scope

KEPT_S = 7 * 24 * 3600.0  # after an entry was used for the last time
USED_EACH_S = 3600.0  # how exactly the last use is known: a read must not always write
MAX_KEY_BYTES = 64 * 1024
MAX_VALUE_BYTES = 100 * MIB
MAX_ITEMS = 10_000  # of one update
MAX_COUNT = 100_000  # the highest number that `len` returns
PAGE, PAGE_BYTES = 500, 4 * MIB  # the most that is read at once: entries, and bytes of their values
_T = tables.dict_items

# The statements of each operation are made once: to make one takes six times as long as to run it. Each is about one key,
# because SQLAlchemy writes a list of keys into the text of a statement each time that it runs.
_HERE = and_(_T.c.dict == bindparam("here"), _T.c.digest == bindparam("this"))
_ALIVE = _T.c.used_at >= bindparam("alive")
_VALUE = Ready(select(_T.c.value, _T.c.used_at).where(_HERE, _ALIVE))
_IS_THERE = Ready(select(_T.c.used_at).where(_HERE, _ALIVE))
_USE = (
    update(_T)
    .where(_HERE, _ALIVE, _T.c.used_at < bindparam("before"))
    .values(used_at=bindparam("now"))
)
_POP = Ready(delete(_T).where(_HERE, _ALIVE).returning(_T.c.value))

Item = tuple[bytes, bytes]  # key, value


class Dicts:
    """The dicts of one environment."""

    def __init__(self, database: Database, *, scope: Scope = MAIN) -> None:
        self.objects = Objects(database, "dict", _empty, scope=scope)
        self._database = database
        self._last_place = 0

    async def get(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key; None for a key that does not exist."""
        places, now = [self._here(name, key) for key in keys], time.time()
        values_of_keys = await self._database.read_together(
            lambda c: [_VALUE.rows(c, here) for here in places]
        )
        used = [
            {**here, "now": now, "before": now - USED_EACH_S}
            for here, rows in zip(places, values_of_keys, strict=True)
            if rows and rows[0][1] < now - USED_EACH_S
        ]
        if used:
            await self._database.together(lambda c: c.execute(_USE, used))
        return [rows[0][0] if rows else None for rows in values_of_keys]

    async def contains(self, name: str, key: bytes) -> bool:
        """Return whether a key exists."""
        here = self._here(name, key)
        return bool(await self._database.read_together(lambda c: _IS_THERE.rows(c, here)))

    async def put(self, name: str, items: Sequence[Item], *, only_new: bool = False) -> int:
        """Set entries, all or none; with `only_new` leave those that exist. Return how many were new."""
        dict_id = self.objects.find(name).id
        _check(items)
        if not items:
            return 0
        rows = {_digest(key): self._row(dict_id, key, value) for key, value in items}
        places = {row["place"] for row in rows.values()}

        def work(connection: Connection) -> int:
            self.objects.find(name)  # it may have been deleted while this waited for its turn
            update, insert = _upserts(connection.dialect.name)
            write = insert if only_new else update
            written = [place for row in rows.values() for (place,) in write.rows(connection, row)]
            return sum(place in places for place in written)

        return await self._database.together(work)

    async def pop(self, name: str, key: bytes) -> bytes | None:
        """Remove an entry and return its value; None if it does not exist."""
        here = self._here(name, key)
        removed = await self._database.together(lambda c: _POP.rows(c, here))
        return removed[0][0] if removed else None

    async def clear(self, name: str) -> None:
        """Remove all entries."""
        dict_id = self.objects.find(name).id
        await self._database.together(lambda c: _empty(c, dict_id))

    async def count(self, name: str) -> int:
        """Return how many entries there are, at most 100,000."""
        dict_id = self.objects.find(name).id
        some = select(_T.c.place).where(_T.c.dict == dict_id, _alive()).limit(MAX_COUNT)
        query = select(func.count()).select_from(some.subquery())
        return await self._database.read(lambda c: c.scalar(query) or 0)

    async def page(
        self, name: str, *, after: int = 0, values: bool = True
    ) -> tuple[list[Item], int | None]:
        """Return some entries in the order of their insertion, and where the next page begins; None after the last page.

        Begin with `after` 0. Without `values`, each value is empty.
        """
        dict_id = self.objects.find(name).id
        query = (
            select(_T.c.place, _T.c.digest, _T.c.key, func.length(_T.c.value))
            .where(_T.c.dict == dict_id, _T.c.place > after, _alive())
            .order_by(_T.c.place)
            .limit(PAGE)
        )

        def work(connection: Connection) -> tuple[list[Item], int | None]:
            rows = _first(connection.execute(query).all(), values=values)
            if not rows:
                return [], None
            if not values:
                return [(row[2], b"") for row in rows], rows[-1][0]
            these = select(_T.c.digest, _T.c.value).where(
                _T.c.dict == dict_id, _T.c.digest.in_([row[1] for row in rows])
            )
            values_by_key = {row[0]: row[1] for row in connection.execute(these)}
            return [(row[2], values_by_key[row[1]]) for row in rows], rows[-1][0]

        return await self._database.read(work)

    async def sweep(self) -> None:
        """Delete the entries that were not used for seven days."""
        query = delete(_T).where(_T.c.used_at < time.time() - KEPT_S)
        await self._database.write(lambda c: c.execute(query))

    def _here(self, name: str, key: bytes) -> dict[str, Any]:
        """Return the parameters of a statement about a key of a dict."""
        dict_id = self.objects.find(name).id
        return {"here": dict_id, "this": _digest(key), "alive": time.time() - KEPT_S}

    def _row(self, dict_id: str, key: bytes, value: bytes) -> dict[str, Any]:
        self._last_place = max(self._last_place + 1, time.time_ns())
        return {
            "dict": dict_id,
            "digest": _digest(key),
            "place": self._last_place,
            "key": key,
            "value": value,
            "used_at": time.time(),
        }


@functools.cache
def _upserts(dialect: str) -> tuple[Ready, Ready]:
    """Return two INSERTs of entries: one changes those that exist, the other leaves them.

    An entry that has expired counts as none. Both return the places of the entries that they wrote; a new entry has the
    place of the call, and an existing one keeps its own.
    """
    query = insert_for(dialect, _T)
    key = [_T.c.dict, _T.c.digest]
    new = query.excluded
    has_expired = _T.c.used_at < new.used_at - KEPT_S
    changed = {"value": new.value, "used_at": new.used_at}
    place = case((has_expired, new.place), else_=_T.c.place)
    columns = [column.name for column in _T.c]
    ways = (
        query.on_conflict_do_update(index_elements=key, set_={**changed, "place": place}),
        query.on_conflict_do_update(
            index_elements=key, set_={**changed, "place": new.place}, where=has_expired
        ),
    )
    update, insert = (Ready(way.returning(_T.c.place), *columns) for way in ways)
    return update, insert


def _first(rows: Sequence[Any], *, values: bool) -> list[Any]:
    """Return the first rows whose values have at most `PAGE_BYTES` together, or the first one alone."""
    page: list[Any] = []
    size = 0
    for row in rows:
        size += row[3] if values else 0
        if page and size > PAGE_BYTES:
            break
        page.append(row)
    return page


def _check(items: Sequence[Item]) -> None:
    if len(items) > MAX_ITEMS:
        raise BadRequest(f"an update of a dict has at most {MAX_ITEMS} entries, not {len(items)}")
    for key, value in items:
        if len(key) > MAX_KEY_BYTES:
            raise BadRequest(f"a dict's key has at most {MAX_KEY_BYTES} bytes, not {len(key)}")
        if len(value) > MAX_VALUE_BYTES:
            raise BadRequest(
                f"a dict's value has at most {MAX_VALUE_BYTES} bytes, not {len(value)}"
            )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _alive() -> ColumnElement[bool]:
    return _T.c.used_at >= time.time() - KEPT_S


def _empty(connection: Connection, dict_id: str) -> None:
    connection.execute(delete(_T).where(_T.c.dict == dict_id))
