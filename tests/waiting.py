"""The one place where a test waits: for another process or thread that sends no event, or on a virtual clock.

A test never sleeps. `tests/house/test_sleeps.py` checks that.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

import looptime

PATIENCE_S = 60.0  # long, because the machine may be busy; a test that passes does not wait so long
PAUSE_S = 0.01


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value; fail the test if there is none within `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(PAUSE_S)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


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
    # looptime looks 42 times for something to do before it lets time pass, and that was half of all work in tests/control.
    factory = functools.partial(looptime.new_event_loop, noop_cycles=1)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(story)
