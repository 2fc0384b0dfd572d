"""The one place where a test waits: for another process or thread that sends no event, or on a virtual clock.

A test never sleeps. `tests/house/test_sleeps.py` checks that.
"""

import asyncio
import functools
import inspect
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

PATIENCE_S = 60.0  # long, because the machine may be busy; a test that passes does not wait so long
PAUSE_S = 0.01
DIGITS = 6  # of a second, on the virtual clock: sums of durations stay exact


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value; fail the test if there is none within `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:  # after a look: the machine may have stood still meanwhile
            raise AssertionError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(PAUSE_S)
    return value


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of a condition, which may be a coroutine function; as `wait_for`."""
    try:
        async with asyncio.timeout(PATIENCE_S) as limit:
            while not (value := await _value(condition)):
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        if not limit.expired():
            raise  # the condition's own
        raise AssertionError(f"waited {PATIENCE_S} s for {what}") from None
    return value


async def turns(count: int) -> None:
    """Let the event loop run `count` times, so that what is ready goes on; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _value(condition: Callable[[], Any]) -> Any:
    value = condition()
    return await value if inspect.isawaitable(value) else value


def virtually(story: Coroutine[Any, Any, Any]) -> Any:
    """Run a story on a virtual clock, on which a sleep takes no time; return its value."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


def virtual(story: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., None]:
    """Make a test of a coroutine function, which runs on a virtual clock."""

    @functools.wraps(story)
    def test(*args: Any, **kwargs: Any) -> None:
        virtually(story(*args, **kwargs))

    return test


def is_virtual() -> bool:
    """Return whether the code runs on a virtual clock."""
    return isinstance(asyncio._get_running_loop(), VirtualLoop)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time begins at 0, and jumps to the next timer when nothing else is to do.

    While work of the loop is in threads, its time passes as real time does: the work would be late else.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._in_threads = 0
        super().__init__(_Jumping(self._wait_s, self._pass))
        self._clock_resolution = 10.0**-DIGITS

    def time(self) -> float:
        return self._now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        if not future.done():
            self._in_threads += 1
            future.add_done_callback(self._out)
        return future

    def _out(self, _future: object) -> None:
        self._in_threads -= 1

    def _wait_s(self, timeout_s: float) -> float:
        return timeout_s if self._in_threads else 0.0

    def _pass(self, duration_s: float) -> None:
        self._now_s = round(self._now_s + duration_s, DIGITS)


class _Jumping(selectors.DefaultSelector):
    """Lets no real time pass until the next timer, but tells the loop that it has."""

    def __init__(self, wait_s: Callable[[float], float], passed: Callable[[float], None]) -> None:
        super().__init__()
        self._wait_s, self._passed = wait_s, passed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # only another thread or process can go on
        ready = super().select(self._wait_s(timeout))
        if not ready and timeout > 0:
            self._passed(timeout)
        return ready
