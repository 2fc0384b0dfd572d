"""`.map()`, `.starmap()` and `.for_each()`: many calls at once, on an event loop.

At most MOST calls run at any time, and at most about as many results wait for the caller, so an endless iterator is
not read further ahead. It begins with WINDOW calls at once. Every GROWS_S seconds it doubles that number while calls
take longer than SLOW_S: more calls at once do not make quick calls quicker.
"""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from homeport.sdk.objects import calling
from homeport.sdk.objects.target import Target

MOST = 1000
WINDOW = 32
GROWS_S = 0.05
SLOW_S = 0.02

Inputs = AsyncIterator[tuple[Any, ...]]


async def calls(
    target: Target,
    inputs: Inputs,
    kwargs: "dict[str, Any]",
    *,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncIterator[Any]:
    """Yield the result of one call for each input, in the order of the inputs or as they come.

    An exception ends the iteration and cancels the running calls, unless `return_exceptions` makes results of
    exceptions.
    """
    flight = _Flight(target, kwargs, ordered=ordered)
    feeding = asyncio.ensure_future(flight.feed(inputs))
    try:
        async for outcome in flight.outcomes():
            if isinstance(outcome, _Raised):
                if not return_exceptions:
                    raise outcome.error
                yield outcome.error
            else:
                yield outcome
    finally:
        feeding.cancel()
        await flight.end()
        await asyncio.gather(feeding, return_exceptions=True)
        with contextlib.suppress(AttributeError):
            await inputs.aclose()  # type: ignore[attr-defined]


class _Raised:
    """An exception as the outcome of one call."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Flight:
    """The running calls, and the outcomes that the caller has not taken yet."""

    def __init__(self, target: Target, kwargs: "dict[str, Any]", *, ordered: bool) -> None:
        self._target, self._kwargs, self._ordered = target, kwargs, ordered
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: deque[asyncio.Task[Any]] = deque()  # in order, or those that are done
        self._news = asyncio.Event()  # an outcome, or the end of the inputs
        self._room = asyncio.Event()
        self._size = WINDOW
        self._grown_at = 0.0
        self._has_ended = False  # True after the last input
        self._failure: Exception | None = None  # an exception of the user's iterator
        self._id = f"fc-{uuid.uuid4()}"  # all inputs belong to one call

    async def feed(self, inputs: Inputs) -> None:
        """Begin a call for each input; wait while too many are under way."""
        try:
            async for args in inputs:
                task = asyncio.ensure_future(self._call(args))
                self._tasks.add(task)
                task.add_done_callback(self._done)
                if self._ordered:
                    self._waiting.append(task)
                while self._is_full():
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._failure = error
        self._has_ended = True
        self._news.set()

    async def outcomes(self) -> AsyncIterator[Any]:
        """Yield the outcomes; raise what the user's iterator has raised."""
        while True:
            while self._waiting and self._waiting[0].done():
                outcome = self._waiting.popleft().result()
                self._room.set()
                yield outcome
            if self._failure is not None:
                raise self._failure
            if self._has_ended and not self._tasks and not self._waiting:
                return
            self._news.clear()
            await self._news.wait()

    async def end(self) -> None:
        """Cancel the running calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_full(self) -> bool:
        finished = len(self._waiting) - (len(self._tasks) if self._ordered else 0)
        return len(self._tasks) >= self._size or finished >= self._size

    async def _call(self, args: "tuple[Any, ...]") -> Any:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await calling.call_async(self._target, args, self._kwargs, self._id)
        except Exception as error:
            return _Raised(error)
        finally:
            now = loop.time()
            if now - began > SLOW_S and now - self._grown_at > GROWS_S and self._is_full():
                self._grown_at, self._size = now, min(2 * self._size, MOST)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not self._ordered and not task.cancelled():
            self._waiting.append(task)
        self._room.set()
        self._news.set()


def zipped(iterables: "tuple[Any, ...]") -> Inputs:
    """Yield the inputs of `.map(a, b)`: one item of each iterable, until the shortest ends."""
    if any(isinstance(iterable, AsyncIterable) for iterable in iterables):
        return _zipped(iterables)
    return plain(zip(*iterables))  # noqa: B905 - as the built-in `map` does


async def single(items: "AsyncIterable[Any]") -> Inputs:
    """Return the inputs of `.map(a)`."""
    async for item in items:
        yield (item,)


def starred(items: Any) -> Inputs:
    """Return the inputs of `.starmap(items)`: each item is the arguments of one call."""
    return _starred(items if isinstance(items, AsyncIterable) else plain(items))


async def plain(items: "Iterable[Any]") -> AsyncIterator[Any]:
    """Yield the items."""
    for item in items:
        yield item


async def _zipped(iterables: "tuple[Any, ...]") -> Inputs:
    readers = [
        (iterable if isinstance(iterable, AsyncIterable) else plain(iterable)).__aiter__()
        for iterable in iterables
    ]
    while True:
        try:
            item = tuple([await anext(reader) for reader in readers])
        except StopAsyncIteration:
            return
        yield item


async def _starred(items: "AsyncIterable[Any]") -> Inputs:
    async for item in items:
        yield tuple(item)
