"""The container's end: whether it was asked to end, and whether it waits for requests in flight."""

import asyncio


class Ending:
    """Set by SIGTERM, and by a container that cannot serve any more."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.cut = asyncio.Event()  # if set, requests in flight are cut
        self._signals = 0
        self.failed = False  # True if it ends by itself, because it cannot continue

    def ask(self) -> None:
        """Handle a signal. The first: finish requests in flight and end. The second: end now."""
        self._signals += 1
        if self._signals > 1:
            self.cut.set()
        self.requested.set()

    def finish(self) -> None:
        """End when the requests in flight have ended; may be called several times."""
        self.requested.set()

    def fail(self) -> None:
        """End in the same way, and exit with a failure, because the container cannot continue."""
        self.failed = True
        self.requested.set()
