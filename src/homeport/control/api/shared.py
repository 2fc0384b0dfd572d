"""The routes of dicts and queues, for containers, commands and scripts."""

from collections.abc import AsyncIterator

from starlette.responses import Response

from homeport.contract.api.shared import (
    Count,
    DictPage,
    DictPut,
    NewObject,
    ObjectList,
    QueueGet,
    QueuePage,
    QueuePart,
    QueuePut,
    StoredObject,
)
from homeport.contract.errors import BadRequest
from homeport.contract.permissions import Permission
from homeport.control.api import answers, bodies, bounds
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.state import dicts, queues
from homeport.state.rows import ObjectRow
from homeport.state.scope import Scope, Scoped

MAX_COUNT = 5000
MAX_DIGITS = 19


class Dicts:
    """Keeps keys and values that containers share. A dict's `{name}` may be its id, too."""

    def __init__(self, store: Scoped[dicts.Dicts]) -> None:
        self._store = store
        self._bodies = bodies.Bodies()

    @route("GET", "/v1/dicts")
    async def every(self, scope: Scope) -> ObjectList:
        """List the dicts."""
        rows = self._store.of(scope).objects.list()
        return ObjectList(
            objects=tuple([_as_answer(r, await self._store.of(scope).count(r.id)) for r in rows])
        )

    @route("POST", "/v1/dicts", audit=Audited.USERS)
    async def create(self, scope: Scope, body: NewObject) -> StoredObject:
        """Create a dict."""
        creation = self._store.of(scope).objects.create(
            body.name or None, allow_existing=body.allow_existing
        )
        return _as_answer(await creation)

    @route("GET", "/v1/dicts/{name}")
    async def one(self, scope: Scope, name: str) -> StoredObject:
        """Describe a dict, with the number of its entries."""
        return _as_answer(
            self._store.of(scope).objects.find(name), await self._store.of(scope).count(name)
        )

    @route("DELETE", "/v1/dicts/{name}")
    async def delete(self, scope: Scope, name: str) -> None:
        """Delete a dict and its entries."""
        await self._store.of(scope).objects.delete(name)

    @route("POST", "/v1/dicts/{name}/get", needs=Permission.READ, audit=Audited.NONE)
    async def get(self, scope: Scope, name: str, body: AsyncIterator[bytes]) -> Response:
        """Answer with the values of the keys in the body, each of which may be missing."""
        return answers.parts_of(
            await self._store.of(scope).get(name, await self._bodies.parts(body))
        )

    @route("POST", "/v1/dicts/{name}/contains", needs=Permission.READ, audit=Audited.NONE)
    async def contains(self, scope: Scope, name: str, body: AsyncIterator[bytes]) -> Count:
        """Say how many of the keys in the body are there."""
        contained = [
            await self._store.of(scope).contains(name, key)
            for key in await self._bodies.parts(body)
        ]
        return Count(count=sum(contained))

    @route("POST", "/v1/dicts/{name}/put", audit=Audited.NONE)
    async def put(
        self, scope: Scope, name: str, query: DictPut, body: AsyncIterator[bytes]
    ) -> Count:
        """Set the entries in the body, key and value in turn, all or none; say how many were new."""
        parts = await self._bodies.parts(body)
        if len(parts) % 2:
            raise BadRequest("the last key has no value")
        items = list(zip(parts[::2], parts[1::2], strict=True))
        return Count(count=await self._store.of(scope).put(name, items, only_new=query.only_new))

    @route("POST", "/v1/dicts/{name}/pop", audit=Audited.NONE)
    async def pop(self, scope: Scope, name: str, body: AsyncIterator[bytes]) -> Response:
        """Remove the entries of the keys in the body; answer with their values, each of which may be missing."""
        return answers.parts_of(
            [await self._store.of(scope).pop(name, key) for key in await self._bodies.parts(body)]
        )

    @route("POST", "/v1/dicts/{name}/clear", audit=Audited.USERS)
    async def clear(self, scope: Scope, name: str) -> None:
        """Remove all entries."""
        await self._store.of(scope).clear(name)

    @route("GET", "/v1/dicts/{name}/items")
    async def items(self, scope: Scope, name: str, query: DictPage) -> Response:
        """Answer with a page of entries: where the next page begins, then key and value in turn.

        The first part is a number as text, or empty after the last page.
        """
        entries, after = await self._store.of(scope).page(
            name, after=_place(query.after), values=not query.keys
        )
        where = b"" if after is None else b"%d" % after
        return answers.parts_of([where, *(part for item in entries for part in item)])


class Queues:
    """Keeps values that containers hand to each other. A queue's `{name}` may be its id, too."""

    def __init__(self, store: Scoped[queues.Queues]) -> None:
        self._store = store
        self._bodies = bodies.Bodies()

    @route("GET", "/v1/queues")
    async def every(self, scope: Scope) -> ObjectList:
        """List the queues."""
        rows = self._store.of(scope).objects.list()
        answers_of_rows = [
            _as_answer(row, await self._store.of(scope).count(row.id, total=True)) for row in rows
        ]
        return ObjectList(objects=tuple(answers_of_rows))

    @route("POST", "/v1/queues", audit=Audited.USERS)
    async def create(self, scope: Scope, body: NewObject) -> StoredObject:
        """Create a queue."""
        creation = self._store.of(scope).objects.create(
            body.name or None, allow_existing=body.allow_existing
        )
        return _as_answer(await creation)

    @route("GET", "/v1/queues/{name}")
    async def one(self, scope: Scope, name: str) -> StoredObject:
        """Describe a queue, with the number of its values."""
        row = self._store.of(scope).objects.find(name)
        return _as_answer(row, await self._store.of(scope).count(name, total=True))

    @route("DELETE", "/v1/queues/{name}")
    async def delete(self, scope: Scope, name: str) -> None:
        """Delete a queue and its values."""
        await self._store.of(scope).objects.delete(name)

    @route("POST", "/v1/queues/{name}/put", audit=Audited.NONE)
    async def put(
        self, scope: Scope, name: str, query: QueuePut, body: AsyncIterator[bytes]
    ) -> None:
        """Add all values in the body, or none: 429 if there is no room in time."""
        await self._store.of(scope).put(
            name,
            await self._bodies.parts(body),
            partition=query.partition,
            ttl_s=query.ttl_s,
            wait_s=bounds.wait_s(query.wait_s),
        )

    @route("POST", "/v1/queues/{name}/get", audit=Audited.NONE)
    async def get(self, scope: Scope, name: str, query: QueueGet) -> Response:
        """Take the oldest values; an empty answer if none arrives in time."""
        values = await self._store.of(scope).get(
            name,
            partition=query.partition,
            count=max(1, min(query.count, MAX_COUNT)),
            wait_s=bounds.wait_s(query.wait_s),
        )
        return answers.parts_of(values)

    @route("GET", "/v1/queues/{name}/length")
    async def length(self, scope: Scope, name: str, query: QueuePart) -> Count:
        """Say how many values there are."""
        part = query.partition
        return Count(
            count=await self._store.of(scope).count(name, partition=part, total=query.every)
        )

    @route("POST", "/v1/queues/{name}/clear", audit=Audited.USERS)
    async def clear(self, scope: Scope, name: str, query: QueuePart) -> None:
        """Remove values."""
        await self._store.of(scope).clear(name, partition=query.partition, every=query.every)

    @route("GET", "/v1/queues/{name}/items")
    async def items(self, scope: Scope, name: str, query: QueuePage) -> Response:
        """Answer with a page of values, which stay in the queue: where the next page begins, then the values."""
        values, after = await self._store.of(scope).page(
            name,
            partition=query.partition,
            after=_place(query.after),
            wait_s=bounds.wait_s(query.wait_s),
        )
        return answers.parts_of([b"%d" % after, *values])


def _as_answer(row: ObjectRow, length: int | None = None) -> StoredObject:
    return StoredObject(id=row.id, name=row.name or "", created_at=row.created_at, length=length)


def _place(after: str) -> int:
    return bounds.number("after", after or "0", digits=MAX_DIGITS)
