"""Queues: values that containers hand to each other, in the database.

A queue has partitions, each of them first in, first out. A partition and its values are deleted if nothing was put into it
for its time to live. A `get` takes each value for one caller. Callers wait in memory: `put` wakes
the callers that wait for its partition.
"""

import asyncio
import functools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from homeport.contract.errors import BadRequest, TooMany
from homeport.contract.sizes import MIB
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.inserting import insert_for
from homeport.state.objects import Objects
from homeport.state.scope import MAIN, Scope

MAX_PARTITIONS = 100_000
MAX_ITEMS = 5000  # in a partition
MAX_VALUE_BYTES = MIB
MAX_PARTITION_BYTES = 64
MAX_TTL_S = 24 * 3600.0 * 7
PAGE = 8  # values that are read at once
LOOK_EACH_S = 0.2  # how often a caller of `page` that waits looks for new values
_P, _T = tables.queue_partitions, tables.queue_items

# The statements of each operation are made once: to make one takes six times as long as to run it.
_PART = and_(_P.c.queue == bindparam("queue_id"), _P.c.partition == bindparam("part"))
_ITEMS = and_(_T.c.queue == bindparam("queue_id"), _T.c.partition == bindparam("part"))
_STATE = select(_P.c.length, _P.c.expires_at).where(_PART)
_TOTAL = select(func.coalesce(func.sum(_P.c.length), 0)).where(
    _P.c.queue == bindparam("queue_id"), _P.c.expires_at > bindparam("now")
)
_LENGTH = _TOTAL.where(_P.c.partition == bindparam("part"))
_PAGE = (
    select(_T.c.place, _T.c.value)
    .where(_ITEMS, _T.c.place > bindparam("after"))
    .where(select(_P.c.queue).where(_PART, _P.c.expires_at > bindparam("now")).exists())
    .order_by(_T.c.place)
    .limit(PAGE)
)
_OLDEST = select(_T.c.place).where(_ITEMS).order_by(_T.c.place).limit(bindparam("most"))
_TAKE = delete(_T).where(_ITEMS, _T.c.place.in_(_OLDEST)).returning(_T.c.place, _T.c.value)
_SHRINK = update(_P).where(_PART).values(length=bindparam("left"))
_ADD = insert(_T)

Key = tuple[str, str]  # a queue's id, a partition
T = TypeVar("T")


class Queues:
    """The queues of one environment."""

    def __init__(self, database: Database, *, scope: Scope = MAIN) -> None:
        self.objects = Objects(database, "queue", _empty, scope=scope)
        self._database = database
        self._last_place = 0
        self._values, self._room = (
            _Lines(),
            _Lines(),
        )  # the callers that wait for a value, and for room

    async def load(self) -> None:
        """Read the queues' names, and where the numbering of the values continues."""
        await self.objects.load()
        query = select(func.max(_T.c.place))
        self._last_place = await self._database.read(lambda c: c.scalar(query) or 0)

    async def put(
        self,
        name: str,
        values: Sequence[bytes],
        *,
        partition: str = "",
        ttl_s: float = 24 * 3600.0,
        wait_s: float = 0.0,
    ) -> None:
        """Add values, all or none; wait for room for at most `wait_s`, then `TooMany`."""
        _check(values, partition, ttl_s)
        if not values:
            return
        key = (self.objects.find(name).id, partition)

        def attempt() -> Awaitable[bool]:
            return self._database.together(lambda c: self._put(c, key, values, ttl_s))

        if not await self._room.until(key, time.monotonic() + wait_s, attempt):
            raise TooMany(
                f"the queue is full: a partition has room for {MAX_ITEMS} values",
                hint="get some first, or use more partitions",
            )
        self._values.wake(key, len(values))

    async def get(
        self, name: str, *, partition: str = "", count: int = 1, wait_s: float = 0.0
    ) -> list[bytes]:
        """Take the oldest values, at most `count`; wait for the first for at most `wait_s`, then none."""
        _check((), partition, 1.0)
        key = (self.objects.find(name).id, partition)

        def attempt() -> Awaitable[list[bytes]]:
            return self._database.together(lambda c: self._take(c, key, count))

        values = await self._values.until(key, time.monotonic() + wait_s, attempt)
        self._room.wake(key, len(values))
        return values

    async def count(self, name: str, *, partition: str = "", total: bool = False) -> int:
        """Return how many values a partition has, or all together."""
        queue = self.objects.find(name).id
        query = _TOTAL if total else _LENGTH
        here = {"queue_id": queue, "part": partition, "now": time.time()}
        return await self._database.read_together(lambda c: int(c.scalar(query, here) or 0))

    async def clear(self, name: str, *, partition: str = "", every: bool = False) -> None:
        """Remove the values of a partition, or with `every` of all of them."""
        queue = self.objects.find(name).id

        def work(connection: Connection) -> None:
            if every:
                _empty(connection, queue)
            else:
                _drop(connection, (queue, partition))

        await self._database.together(work)
        for key in [key for key in self._room.waiting if key[0] == queue]:
            if every or key[1] == partition:
                self._room.wake(key, MAX_ITEMS)

    async def page(
        self, name: str, *, partition: str = "", after: int = 0, wait_s: float = 0.0
    ) -> tuple[list[bytes], int]:
        """Return some values of a partition without taking them, and where the next page begins.

        Begin with `after` 0. Without a value there, wait for one for at most `wait_s`, then return none.
        """
        key = (self.objects.find(name).id, partition)
        deadline = time.monotonic() + wait_s
        # A caller that takes no value must not wait in the line: a value wakes only as many callers as can take one.
        while not (page := await self._page(key, after)) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EACH_S)
        return [row[1] for row in page], page[-1][0] if page else after

    async def sweep(self) -> None:
        """Delete the partitions whose time to live has passed."""
        query = select(_P.c.queue, _P.c.partition).where(_P.c.expires_at <= time.time())

        def work(connection: Connection) -> None:
            for queue, partition in connection.execute(query).all():
                _drop(connection, (queue, partition))

        await self._database.write(work)

    async def _page(self, key: Key, after: int) -> list[Any]:
        here = {**_here(key), "after": after, "now": time.time()}
        return await self._database.read_together(lambda c: list(c.execute(_PAGE, here)))

    def _put(self, connection: Connection, key: Key, values: Sequence[bytes], ttl_s: float) -> bool:
        """Add the values; False if there is no room for all of them."""
        self.objects.find(key[0])  # it may have been deleted while this waited for its turn
        items = _alive(connection, key)
        if items + len(values) > MAX_ITEMS:
            return False
        if not items:
            _check_partitions(connection, key)
        rows = []
        for value in values:
            self._last_place = max(self._last_place + 1, time.time_ns())
            rows.append(
                {"queue": key[0], "partition": key[1], "place": self._last_place, "value": value}
            )
        connection.execute(_ADD, rows)
        _count(connection, key, items + len(values), time.time() + ttl_s)
        return True

    def _take(self, connection: Connection, key: Key, count: int) -> list[bytes]:
        self.objects.find(key[0])
        items = _alive(connection, key)
        if not items:
            return []
        here = _here(key)
        rows = connection.execute(_TAKE, {**here, "most": count}).all()
        connection.execute(_SHRINK, {**here, "left": items - len(rows)})
        return [row[1] for row in sorted(rows, key=lambda row: row[0])]


def _alive(connection: Connection, key: Key) -> int:
    """Return how many values a partition has; empty it if its time to live has passed."""
    row = connection.execute(_STATE, _here(key)).one_or_none()
    if row is None:
        return 0
    if row[1] <= time.time():
        _drop(connection, key)
        return 0
    return int(row[0])


def _here(key: Key) -> dict[str, Any]:
    return {"queue_id": key[0], "part": key[1]}


def _count(connection: Connection, key: Key, items: int, expires_at: float) -> None:
    row = {"queue": key[0], "partition": key[1], "length": items, "expires_at": expires_at}
    connection.execute(_counting(connection.dialect.name), row)


@functools.cache
def _counting(dialect: str) -> Any:
    """Return the statement that sets a partition's length and end."""
    query = insert_for(dialect, _P)
    changed = {"length": query.excluded.length, "expires_at": query.excluded.expires_at}
    return query.on_conflict_do_update(index_elements=[_P.c.queue, _P.c.partition], set_=changed)


def _check_partitions(connection: Connection, key: Key) -> None:
    partitions = select(func.count()).select_from(_P).where(_P.c.queue == key[0])
    if (connection.scalar(partitions) or 0) < MAX_PARTITIONS:
        return
    there = select(_P.c.queue).where(_P.c.queue == key[0], _P.c.partition == key[1])
    if connection.execute(there).first() is None:
        raise BadRequest(f"a queue has at most {MAX_PARTITIONS} partitions")


def _check(values: Sequence[bytes], partition: str, ttl_s: float) -> None:
    if len(partition.encode()) > MAX_PARTITION_BYTES:
        raise BadRequest("a partition's name has 1 to 64 bytes of UTF-8")
    if len(values) > MAX_ITEMS:
        raise BadRequest(f"a partition has room for {MAX_ITEMS} values, not for {len(values)}")
    for value in values:
        if len(value) > MAX_VALUE_BYTES:
            raise BadRequest(f"a value has at most {MAX_VALUE_BYTES} bytes, not {len(value)}")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise BadRequest("`partition_ttl` is from 1 second to 7 days")


def _drop(connection: Connection, key: Key) -> None:
    for table in (_T, _P):
        connection.execute(
            delete(table).where(table.c.queue == key[0], table.c.partition == key[1])
        )


def _empty(connection: Connection, queue: str) -> None:
    for table in (_T, _P):
        connection.execute(delete(table).where(table.c.queue == queue))


class _Lines:
    """Callers that wait for a partition to change, in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: defaultdict[Key, list[asyncio.Future[None]]] = defaultdict(list)

    async def until(self, key: Key, deadline: float, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return the first true value of `attempt`, which is made at once and after each `wake`.

        At the deadline (of `time.monotonic`) return the last value. The caller stands in line before it tries, so that no
        change is missed.
        """
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting[key].append(turn)
            tries_again = False
            try:
                value = await attempt()
                left_s = deadline - time.monotonic()
                if value or left_s <= 0:
                    return value
                await asyncio.wait([turn], timeout=left_s)
                if not turn.done():
                    return value
                tries_again = True
            finally:
                self._leave(key, turn)
                if turn.done() and not tries_again:
                    self.wake(key, 1)  # the change is for the next one

    def wake(self, key: Key, count: int) -> None:
        """Let the first `count` callers try again."""
        for turn in self.waiting.get(key, [])[:count]:
            self._leave(key, turn)
            turn.set_result(None)

    def _leave(self, key: Key, turn: "asyncio.Future[None]") -> None:
        line = self.waiting.get(key, [])
        if turn in line:
            line.remove(turn)
        if not line:
            self.waiting.pop(key, None)
