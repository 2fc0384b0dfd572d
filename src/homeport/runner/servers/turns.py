"""Runs periodic work: the pulse for the node, and checks of conditions without an event.

One timer of the event loop does all of it, every two seconds while a request is inside and every five without one, so an
idle container costs next to nothing. A thread also beats: that shows that threads get the GIL. If the loop stands still, the
thread prints where it hangs. In an idle container the thread sleeps longer, and the timer beats for it.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

from homeport.contract.pulse import BEAT_S, IDLE_BEAT_S, Pulse
from homeport.sdk.tracebacks import is_users

HELD_UP_S = 8.0  # after this long without a turn, print where the loop hangs


class Turns:
    """The loop's timer, and the thread that beats beside it."""

    def __init__(self, pulse: Pulse | None) -> None:
        self.pulse = pulse
        self._works: list[Callable[[], bool | None]] = []
        self._turned = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # the id of the loop's thread

    def add(self, work: Callable[[], bool | None]) -> None:
        """Call `work` at each turn; it must be quick, and returns true if the next turn must not be late."""
        self._works.append(work)

    def begin(self) -> None:
        """Start the timer and the thread: the loop serves from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._turn()
        threading.Thread(target=self._beat, name="homeport pulse", daemon=True).start()

    @property
    def _is_idle(self) -> bool:
        return self.pulse is None or self.pulse.is_idle

    def _turn(self) -> None:
        assert self._loop is not None
        is_idle = self._is_idle
        self._turned = time.monotonic()
        if self.pulse is not None:
            self.pulse.turn()
            if is_idle:
                self.pulse.beat()
        try:
            for work in self._works:
                is_idle = not work() and is_idle
        finally:
            self._loop.call_later(IDLE_BEAT_S if is_idle else BEAT_S, self._turn)

    def _beat(self) -> None:
        reported = 0.0  # the turn after which a hanging loop was last reported
        while True:
            if self.pulse is not None:
                self.pulse.beat()
            turned = self._turned
            still_s = time.monotonic() - turned
            if still_s > HELD_UP_S and reported != turned:
                reported = turned
                self._say(still_s)
            time.sleep(HELD_UP_S if self._is_idle else BEAT_S)

    def _say(self, still_s: float) -> None:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, for this purpose
        frames = (
            [f for f in traceback.extract_stack(frame) if is_users(f.filename)] if frame else []
        )
        if not frames:
            return  # the loop is idle: the whole process was stopped
        where = "".join(traceback.format_list(frames)).rstrip()
        print(f"the event loop has stood still for {still_s:.0f} s in\n{where}", file=sys.stderr)  # noqa: T201 - the container's log
