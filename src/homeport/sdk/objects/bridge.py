"""A bridge from blocking code to an event loop in a thread: it carries inputs there and results back.

Used by the blocking `.map()`. The user's iterator is read in a thread of its own, so it may block, and may wait for
results. Neither side runs ahead of the other by more than AHEAD items.
"""

import asyncio
import contextlib
import contextvars
import importlib
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from homeport import wire

AHEAD = 256
LOOK_S = 0.25  # a waiting thread wakes this often, so that an exception can be raised in it
END_S = 10.0  # how long cancelled calls may take to end
READY = (list, tuple, range, dict, set, frozenset, str, bytes)  # reading them never blocks


def run(
    items: "Iterable[Any]", work: "Callable[[AsyncIterator[Any]], AsyncIterator[Any]]"
) -> Iterator[Any]:
    """Run `work` with the items on a loop in another thread, and yield its results."""
    loop = _new_loop()
    results = _Results(loop)
    inputs = _Inputs(loop, items)
    thread = threading.Thread(
        target=contextvars.copy_context().run,  # the calls are those of the caller
        args=(_turn, loop, results, inputs, work),
        name="homeport map",
        daemon=True,
    )
    thread.start()
    try:
        yield from results.take()
    finally:
        inputs.close()
        results.stop()
        thread.join(END_S)


def _turn(
    loop: asyncio.AbstractEventLoop, results: "_Results", inputs: "_Inputs", work: Any
) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(results.fill(work(inputs.read())))
        loop.run_until_complete(loop.shutdown_asyncgens())
        wire.close_idle(loop)
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


class _Results:
    """Results on their way from the loop to the thread that takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._room = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._is_stopped = False

    async def fill(self, results: "AsyncIterator[Any]") -> None:
        """Put everything that `results` yields into the queue, and then the error that ended it, or None."""
        self._task = asyncio.current_task()
        end: Any = None
        try:
            async for item in results:
                self._queue.put((False, item))
                while self._queue.qsize() > AHEAD and not self._is_stopped:
                    self._room.clear()
                    await self._room.wait()
                if self._is_stopped:
                    break
        except asyncio.CancelledError:
            pass
        except Exception as error:
            end = error
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await results.aclose()  # type: ignore[attr-defined]
        self._queue.put((True, end))

    def take(self) -> Iterator[Any]:
        """Yield the results in the thread that takes them; raise what the work has raised."""
        since = 0
        while True:
            try:
                is_end, item = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                self._wake(self._room.set)
                continue
            if is_end:
                if item is not None:
                    raise item.error if isinstance(item, _Ended) else item
                return
            since += 1
            if since >= AHEAD // 4:
                since = 0
                self._wake(self._room.set)
            yield item

    def stop(self) -> None:
        """End the work, because no more results are wanted."""
        self._is_stopped = True
        self._wake(self._cancel)

    def _cancel(self) -> None:
        self._room.set()
        if self._task is not None:
            self._task.cancel()

    def _wake(self, call: "Callable[[], Any]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call)


class _Ended(Exception):
    """The user's iterator has raised what would end the loop, such as SystemExit."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Inputs:
    """Items on their way from the thread that reads the user's iterator to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, items: "Iterable[Any]") -> None:
        self._loop, self._items = loop, items
        self._deque: deque[Any] = deque()
        self._news = asyncio.Event()
        self._room = threading.Semaphore(AHEAD)
        self._is_closed = self._has_ended = False
        self._failure: Exception | None = None
        self._context = contextvars.copy_context()

    async def read(self) -> AsyncIterator[Any]:
        """Yield the items on the loop."""
        if isinstance(self._items, READY):
            for item in self._items:
                yield item
            return
        threading.Thread(
            target=self._context.run, args=(self._feed,), name="homeport inputs", daemon=True
        ).start()
        while True:
            while self._deque:
                yield self._deque.popleft()
                self._room.release()
            if self._has_ended and not self._deque:
                break
            self._news.clear()
            if not (self._deque or self._has_ended):
                await self._news.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Read no more items."""
        self._is_closed = True
        self._room.release()

    def _feed(self) -> None:
        try:
            for item in self._items:
                self._deque.append(item)
                if not self._news.is_set():
                    self._loop.call_soon_threadsafe(self._news.set)
                self._room.acquire()
                if self._is_closed:
                    break
        except RuntimeError as error:
            if not self._loop.is_closed():
                self._failure = error
        except Exception as error:
            self._failure = error
        except BaseException as error:
            self._failure = _Ended(error)
        self._has_ended = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.set)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop: uvloop's if it is installed, because it needs a third of the time for each call."""
    with contextlib.suppress(ImportError):
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
        return loop
    return asyncio.new_event_loop()
