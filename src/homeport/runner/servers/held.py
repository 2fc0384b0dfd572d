"""Held slots: slots whose work continues after the response, as a background task or an abandoned thread.

The ingress counts a slot as free when it has the response's last byte. So the runner keeps the last bytes
back, tells the node how many slots are held, and waits until the ingress keeps as many slots back:

    -> {"kind": "held", "held": 2}     <- {"held": 2}

Then it sends the last bytes. After CONFIRM_S it sends them in any case: the control plane may be down.
"""

import asyncio
from collections.abc import Callable

GRACE_S = 0.005  # work that ends within this time is not reported: the response waits for it
CONFIRM_S = 0.05


class Held:
    """Counts the held slots, and knows how many of them the ingress keeps back."""

    def __init__(self, say: Callable[[int], None]) -> None:
        self.count = 0
        self._say = say
        self._waiting: dict[asyncio.Future[None], int] = {}

    def begin(self) -> "asyncio.Future[None]":
        """Hold one more slot; the future is done when the ingress sends no request to it."""
        self.add()
        loop = asyncio.get_running_loop()
        confirmed = loop.create_future()
        self._waiting[confirmed] = self.count
        patience = loop.call_later(CONFIRM_S, self._confirm, confirmed)
        confirmed.add_done_callback(lambda _: patience.cancel())
        return confirmed

    def add(self) -> None:
        """Hold one more slot whose response was sent already."""
        self.count += 1
        self._say(self.count)

    def end(self) -> None:
        """The work has ended."""
        self.count -= 1
        self._say(self.count)

    def confirmed(self, held: int) -> None:
        """The node reports that the ingress keeps this many slots back."""
        for waiting, count in list(self._waiting.items()):
            if held >= count:
                self._confirm(waiting)

    def _confirm(self, waiting: "asyncio.Future[None]") -> None:
        self._waiting.pop(waiting, None)
        if not waiting.done():
            waiting.set_result(None)
