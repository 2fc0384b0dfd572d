"""The requests inside a container: each holds a slot from the arrival of its head to the end of its work.

The app servers and the relay use it. A request whose deadline has passed is expired once, and its slot is
free soon after that. Work that cannot be ended (a thread) is counted: a container with too many such
threads ends, and a fresh one replaces it.
"""

import asyncio
import contextvars
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from homeport.contract.manifest import FunctionSpec
from homeport.contract.pulse import Pulse
from homeport.sdk import context

EARLY_S = 0.002  # a loop's timer may call this early
LOOK_S = 0.25  # between two checks of an abandoned thread


class Stay:
    """One request inside; each server subclasses it with its own fields, so that a request is one object."""

    deadline = math.inf  # seconds of the loop's clock, which is `time.monotonic`
    is_late = False  # True after its deadline
    is_seated = False  # True if it has a slot, False while it waits for one

    def expire(self) -> None:
        """End the request, because its deadline has passed; called once, on the loop."""
        raise NotImplementedError


class Slots:
    """The requests inside, in order of arrival; use it on the event loop only."""

    def __init__(
        self,
        function: FunctionSpec,
        pulse: Pulse | None,
        too_many_stuck: Callable[[], None],
        cut: Callable[[], None] = lambda: None,
    ) -> None:
        self.cut = cut  # call it after ending a response that its visitor had not read
        self.timeout_s = function.timeout_s
        self._loop = asyncio.get_running_loop()
        self._most = function.max_inputs
        self._pulse = pulse
        self._taken = 0
        self._inside: dict[Stay, None] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: list[
            Callable[[], bool]
        ] = []  # for each abandoned thread, a function that returns whether it still runs
        self._too_many_stuck = too_many_stuck

    @property
    def is_full(self) -> bool:
        """True if every slot is taken."""
        return self._taken >= self._most

    def enter(self, stay: Stay) -> None:
        """Add a request; unless it is seated, `await turn(stay)` before its work begins."""
        now = self._loop.time()
        stay.deadline = now + self.timeout_s
        self._inside[stay] = None
        if self._taken < self._most:
            self._taken += 1
            stay.is_seated = True
        if self._timer is None:
            self._arm(stay.deadline - now)
        if self._pulse is not None:
            self._pulse.began()
            if len(self._inside) == 1:
                self._pulse.inside(1, stay.deadline)
            else:
                self._tell()

    async def turn(self, stay: Stay) -> None:
        """Return when the request has a slot.

        The ingress keeps to the slots; yet two of its processes may each think that one is free while
        one of them hands over to the other.
        """
        while not stay.is_seated:
            if self._taken < self._most:
                self._taken += 1
                stay.is_seated = True
                return
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if not waiting.cancelled():
                    self._let_in()  # the slot had been given to this one already
                raise

    def leave(self, stay: Stay) -> None:
        """Remove a request: its work has ended, or was abandoned."""
        if stay not in self._inside:
            return
        del self._inside[stay]
        if stay.is_seated:
            self._taken -= 1
            if self._waiting:
                self._let_in()
        if self._pulse is not None:
            self._tell()

    def stick(self, goes_on: Callable[[], bool]) -> None:
        """Count work that continues after its deadline; end the container if there is too much of it."""
        self._stuck = [still_runs for still_runs in (*self._stuck, goes_on) if still_runs()]
        if len(self._stuck) > self._most:
            self._too_many_stuck()

    def _let_in(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def _tell(self) -> None:
        assert self._pulse is not None
        first = next(iter(self._inside), None)
        self._pulse.inside(len(self._inside), first.deadline if first is not None else None)

    def _arm(self, delay_s: float) -> None:
        # A day at most: timeouts may be longer than a loop's timer can be.
        delay_s = min(max(delay_s, 0.0), 86400.0)
        self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        """Expire the requests whose deadline has passed; set the timer to the next deadline."""
        self._timer = None
        now = self._loop.time()
        upcoming = math.inf
        for stay in list(self._inside):
            if stay.is_late:
                continue
            if stay.deadline > now + EARLY_S:
                upcoming = stay.deadline
                break
            stay.is_late = True
            stay.expire()
        if upcoming < math.inf:
            self._arm(upcoming - now)


async def until_free(request: str, deadline: float) -> bool:
    """Wait for the thread that is busy with a request; return False if it is still busy at the deadline."""
    while busy(request):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def busy(request: str) -> bool:
    """Return whether a thread runs a handler for this request.

    Frameworks run sync handlers in threads (anyio, `asyncio.to_thread`) with a copy of the request's
    context, which is a local variable near the bottom of the thread's stack. A cancelled task leaves
    such a thread behind; its stack is the only sign of it.
    """
    here = threading.get_ident()
    for thread, top in sys._current_frames().items():  # noqa: SLF001 - documented, for this purpose
        if thread == here:
            continue
        frame, stack = top, []
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back  # type: ignore[assignment]
        for frame in stack[-6:]:
            if any(_is_of(value, request) for value in list(frame.f_locals.values())):
                return True
    return False


def _is_of(value: Any, request: str) -> bool:
    if type(value).__name__ == "_WorkItem":  # of concurrent.futures
        value = value.fn
    if type(value).__name__ == "partial":  # of `context.run`, as asyncio.to_thread makes it
        value = getattr(value.func, "__self__", None)
    return isinstance(value, contextvars.Context) and value.get(context.input_id) == request
