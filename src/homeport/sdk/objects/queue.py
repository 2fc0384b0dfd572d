"""`Queue`: values that functions hand to each other."""

import json
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

from homeport.contract import frames
from homeport.sdk import values
from homeport.sdk.exception import InvalidError, ResourceExhaustedError
from homeport.sdk.objects import exchange
from homeport.sdk.objects.exchange import Steps, Wait
from homeport.sdk.objects.shared import Manager, Shared, query

DAY_S = 24 * 3600


class Queue(Shared):
    """A queue on the server, for every function that knows its name: first in, first out, in each partition.

    Values are pickled. A `get` takes each value for one caller. A value is on the disk when `put` returns. Each method has an
    `.aio`.
    """

    noun = "queues"
    objects: "Manager[Queue]"

    @exchange.operation
    def put(
        self,
        v: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = DAY_S,
    ) -> Steps[None]:
        """Add a value. If the queue is full, wait at most `timeout` seconds for room, then raise `queue.Full`."""
        yield from self._put([v], block, timeout, partition, partition_ttl)

    @exchange.operation
    def put_many(
        self,
        vs: list[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = DAY_S,
    ) -> Steps[None]:
        """Add all of these values, or none; wait as `put` does."""
        yield from self._put(list(vs), block, timeout, partition, partition_ttl)

    @exchange.operation
    def get(
        self, block: bool = True, timeout: float | None = None, *, partition: str | None = None
    ) -> Steps[Any]:
        """Take the oldest value. If there is none, wait at most `timeout` seconds, then raise `queue.Empty`.

        Without `block`, return None if there is no value.
        """
        taken_values = yield from self._get(1, block, timeout, partition)
        return taken_values[0] if taken_values else None

    @exchange.operation
    def get_many(
        self,
        n_values: int,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
    ) -> Steps[list[Any]]:
        """Take the oldest values, at most `n_values`; wait for the first as `get` does."""
        if n_values < 1:
            raise InvalidError("`n_values` must be at least 1")
        return (yield from self._get(n_values, block, timeout, partition))

    @exchange.operation
    def len(self, *, partition: str | None = None, total: bool = False) -> Steps[int]:
        """Return how many values a partition has, or with `total` all of them."""
        if partition is not None and total:
            raise InvalidError("Partition must be None when requesting total length.")
        path = query("length", partition=_partition(partition), every="1" if total else "")
        return int(json.loads((yield from self._ask(path, method="GET")))["count"])

    @exchange.operation
    def clear(self, *, partition: str | None = None, all: bool = False) -> Steps[None]:  # noqa: A002
        """Remove what is in a partition, or with `all` everything."""
        if partition is not None and all:
            raise InvalidError("Partition must be null when requesting to clear all.")
        path = query("clear", partition=_partition(partition), every="1" if all else "")
        yield from self._ask(path)

    @property
    def iterate(self) -> "Values":
        """Iterate over the values without taking them: `iterate(partition=None, item_poll_timeout=0.0)`.

        It ends after `item_poll_timeout` seconds without a new value.
        """
        return Values(self._page)

    def __len__(self) -> int:
        return self.len()

    def __bool__(self) -> bool:
        return True  # also without a value: it must not ask the server

    def __repr__(self) -> str:
        return f"Queue('{self._name or self._id or 'ephemeral'}')"

    def _put(
        self, vs: list[Any], block: bool, timeout: float | None, partition: str | None, ttl: int
    ) -> Steps[None]:
        body = frames.pack([values.dumps(value) for value in vs])
        where = _partition(partition)
        if not 0 < ttl <= 7 * DAY_S:
            raise InvalidError("`partition_ttl` must be from 1 second to 7 days")
        wait = _wait(block, timeout)
        while True:
            path = query("put", partition=where, ttl_s=float(ttl), wait_s=wait.next_s)
            try:
                yield from self._ask(path, body, repeats=False)
            except ResourceExhaustedError as error:
                if wait.is_over:
                    raise queue.Full(str(error)) from None
            else:
                return

    def _get(
        self, count: int, block: bool, timeout: float | None, partition: str | None
    ) -> Steps[list[Any]]:
        where, wait = _partition(partition), _wait(block, timeout)
        while True:
            path = query("get", partition=where, count=count, wait_s=wait.next_s)
            pickled = frames.values((yield from self._ask(path, repeats=False)))
            if pickled:
                return [values.loads(value) for value in pickled]
            if wait.is_over:
                if block:
                    raise queue.Empty
                return []

    @exchange.operation
    def _page(
        self, after: str, partition: str | None, wait_s: float
    ) -> Steps[tuple[str, list[bytes]]]:
        wait = Wait(wait_s)
        while True:
            path = query("items", partition=_partition(partition), after=after, wait_s=wait.next_s)
            first, *pickled = frames.values((yield from self._ask(path, method="GET")))
            if pickled or wait.is_over:
                return first.decode(), pickled


class Values:
    """`q.iterate()`, and `q.iterate.aio()` for `async for`."""

    def __init__(
        self, page: "exchange.Operation[[str, str | None, float], tuple[str, list[bytes]]]"
    ) -> None:
        self._page = page

    def __call__(
        self, *, partition: str | None = None, item_poll_timeout: float = 0.0
    ) -> Iterator[Any]:
        after, pickled = self._page("", partition, item_poll_timeout)
        while pickled:
            yield from map(values.loads, pickled)
            after, pickled = self._page(after, partition, item_poll_timeout)

    async def aio(
        self, *, partition: str | None = None, item_poll_timeout: float = 0.0
    ) -> AsyncIterator[Any]:
        """The same for `async for`."""
        after, pickled = await self._page.aio("", partition, item_poll_timeout)
        while pickled:
            for value in pickled:
                yield values.loads(value)
            after, pickled = await self._page.aio(after, partition, item_poll_timeout)


def _partition(name: str | None) -> str:
    if name is None:
        return ""
    if not isinstance(name, str) or not 1 <= len(name.encode()) <= 64:
        raise InvalidError("Queue partition key must be between 1 and 64 bytes long.")
    return name


def _wait(block: bool, timeout: float | None) -> Wait:
    return Wait(timeout if block else 0.0)


Queue.objects = Manager(Queue)
