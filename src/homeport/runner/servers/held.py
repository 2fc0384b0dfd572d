"""Slots whose work goes on after the response: a background task, a thread that nobody waits for.

The ingress counts a slot as free when it has the response's last byte. So the last bytes are kept back for a
moment, the node is told how many slots are still taken, and it says when the ingress keeps so many back:

    -> {"kind": "held", "held": 2}     <- {"held": 2}

Then the last bytes go. They go after CONFIRM_S in any case: the control plane may be away.
"""

import asyncio
from collections.abc import Callable

GRACE_S = 0.005  # work that ends within that is not reported: its response waits for it
CONFIRM_S = 0.05


class Held:
    """How many slots are held, as the node and the ingress know it."""

    def __init__(self, say: Callable[[int], None]) -> None:
        self.count = 0
        self._say = say
        self._waiting: dict[asyncio.Future[None], int] = {}

    def begin(self) -> "asyncio.Future[None]":
        """One more; the future is done when no visitor is sent to that slot any more."""
        self.add()
        loop = asyncio.get_running_loop()
        confirmed = loop.create_future()
        self._waiting[confirmed] = self.count
        patience = loop.call_later(CONFIRM_S, self._confirm, confirmed)
        confirmed.add_done_callback(lambda _: patience.cancel())
        return confirmed

    def add(self) -> None:
        """One more, whose response is over already."""
        self.count += 1
        self._say(self.count)

    def end(self) -> None:
        """The work has ended."""
        self.count -= 1
        self._say(self.count)

    def confirmed(self, held: int) -> None:
        """The node's word: the ingress keeps so many back."""
        for waiting, wanted in list(self._waiting.items()):
            if held >= wanted:
                self._confirm(waiting)

    def _confirm(self, waiting: "asyncio.Future[None]") -> None:
        self._waiting.pop(waiting, None)
        if not waiting.done():
            waiting.set_result(None)
