"""Who asked a container to end, and how patiently."""

import asyncio


class Ending:
    """SIGTERM asks; so does a container that has no more use."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cut = asyncio.Event()  # what is in flight is not waited for
        self._signals = 0
        self.failed = False  # it ends by itself, and not because it was asked to

    def ask(self) -> None:
        """A signal. Once: finish what is in flight. Twice: do not."""
        self._signals += 1
        if self._signals > 1:
            self.cut.set()
        self.asked.set()

    def finish(self) -> None:
        """End when what is in flight has ended; as often as one likes."""
        self.asked.set()

    def fail(self) -> None:
        """The same, of a container that is of no use any more."""
        self.failed = True
        self.asked.set()
