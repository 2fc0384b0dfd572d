"""Background tasks whose errors are always logged.

    await supervised("reconciler", loop)     an endless loop: after an error it starts again
    await supervised("sweep", loop, expected=StorageError)   the same; such an error is logged without traceback
    await retried("forget ta-1", attempt)    work that must succeed: tried until it returns
    tasks = Tasks(); tasks.start("warm", …)  everything else: an error is logged, `close` cancels all

An error is logged with its traceback; the next try waits 0.1 s, then twice as long each time, at most
5 s. The clock is the event loop's, so tests can use virtual time. Cancelling the task ends the work at once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
GOOD_WHILE_S = 30.0  # a loop that ran this long has recovered: the next wait is the shortest again

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]
log = logging.getLogger(__name__)


async def supervised(
    name: str, loop: Callable[[], Awaitable[object]], *, expected: Errors = ()
) -> NoReturn:
    """Run an endless loop; start it again if it raises or returns.

    Keep the loop's state outside the function, because each start begins with new local variables. `expected` are
    errors whose text says everything: they are warnings in the log, without a traceback.
    """
    wait = _Wait(name, expected)
    while True:
        wait.begin()
        try:
            await loop()
        except asyncio.CancelledError as error:
            _raise_if_asked_to_end(error)
            await wait.after(error)
        except Exception as error:
            await wait.after(error)
        else:
            await wait.after(None)


async def retried(name: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Call `attempt` until it returns; return its value. An earlier attempt may have done half of the work."""
    wait = _Wait(name)
    while True:
        wait.begin()
        try:
            return await attempt()
        except asyncio.CancelledError as error:
            _raise_if_asked_to_end(error)
            await wait.after(error)
        except Exception as error:
            await wait.after(error)


class Tasks:
    """Tasks that are not awaited. An error of a task is logged under its name."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Begin a piece of work; after `close` return a cancelled future, because nothing would end the work."""
        loop = asyncio.get_running_loop()
        if self._is_closed:
            work.close()
            refused: asyncio.Future[T] = loop.create_future()
            refused.cancel()
            return refused
        task = loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel the running tasks, and wait for their end; start no more."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        log_failure(task)


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log why a task ended, if that was an error: for `Task.add_done_callback`."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=error)


class _Wait:
    """Logs failures of a loop, and waits before its next start."""

    def __init__(self, name: str, expected: Errors = ()) -> None:
        self._name = name
        self._told = expected
        self._next_s = FIRST_WAIT_S
        self._began = 0.0
        self._last = ""  # the last error; the same error again is logged without a traceback

    def begin(self) -> None:
        self._began = asyncio.get_running_loop().time()

    async def after(self, error: BaseException | None) -> None:
        if asyncio.get_running_loop().time() - self._began >= GOOD_WHILE_S:
            self._next_s, self._last = FIRST_WAIT_S, ""
        wait_s, self._next_s = self._next_s, min(self._next_s * 2, LONGEST_WAIT_S)
        self._log(error, wait_s)
        await asyncio.sleep(wait_s)

    def _log(self, error: BaseException | None, wait_s: float) -> None:
        if isinstance(error, self._told):
            with contextlib.suppress(Exception):  # a full disk must not end the loop
                log.warning("%s: %s; again in %.1f s", self._name, error, wait_s)
            return
        text = "it returned" if error is None else f"{type(error).__name__}: {error}"
        trace = error if text != self._last else None
        self._last = text
        with contextlib.suppress(Exception):
            log.error("%s failed: %s; again in %.1f s", self._name, text, wait_s, exc_info=trace)


def _raise_if_asked_to_end(error: asyncio.CancelledError) -> None:
    """Raise the cancellation if the loop itself was cancelled, and not a task that it awaited."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
