"""The running changes of apps: which user began them, and their progress, which several clients can follow.

Of a change that has ended, the progress can be read for a while.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator

from homeport.contract.api import events
from homeport.contract.scope import Scope

KEPT_EVENTS = 1_000  # of one change, for those who come later
KEPT = 20  # changes that have ended
BACKLOG = 5_000  # events that wait for a slow reader; further ones are lost for it


class Watched:
    """One change, with the events up to now."""

    def __init__(self, scope: Scope, app: str, number: int | None) -> None:
        self.scope, self.app, self.number = scope, app, number
        self.end: events.Done | events.Error | None = None
        self._events: deque[events.DeployEvent] = deque(maxlen=KEPT_EVENTS)
        self._readers: set[asyncio.Queue[events.DeployEvent]] = set()

    def say(self, text: str) -> None:
        """Report progress."""
        self._tell(events.progress(text))

    def finish(self, end: events.Done | events.Error) -> None:
        """Report how it has ended."""
        self.end = end
        self._tell(end)

    @contextlib.contextmanager
    def following(self) -> Iterator[asyncio.Queue[events.DeployEvent]]:
        """Yield a queue with all events up to now, and those from now on; the last event says how it ended."""
        queue: asyncio.Queue[events.DeployEvent] = asyncio.Queue()
        for event in self._events:
            queue.put_nowait(event)
        self._readers.add(queue)
        try:
            yield queue
        finally:
            self._readers.discard(queue)

    def _tell(self, event: events.DeployEvent) -> None:
        self._events.append(event)
        for queue in self._readers:
            if queue.qsize() < BACKLOG or event is self.end:
                queue.put_nowait(event)


class Underway:
    """All running changes, and the last that have ended."""

    def __init__(self) -> None:
        self._all: deque[Watched] = deque()

    def begin(self, scope: Scope, app: str, number: int | None) -> Watched:
        """Note a change."""
        watched = Watched(scope, app, number)
        self._all.append(watched)
        ended = [change for change in self._all if change.end is not None]
        for old in ended[:-KEPT]:
            self._all.remove(old)
        return watched

    def find(self, scope: Scope, number: int) -> Watched | None:
        """Return a change of an environment; None if it is not known any more."""
        matching = (
            change for change in self._all if (change.scope, change.number) == (scope, number)
        )
        return next(matching, None)


async def until_the_end(
    queue: "asyncio.Queue[events.DeployEvent]",
) -> AsyncIterator[events.DeployEvent]:
    """Yield the events of a queue, the last of which says how the change has ended."""
    while not isinstance(event := await queue.get(), (events.Done, events.Error)):
        yield event
    yield event
