"""Queues requests that have ended, and sends their spans from a thread.

A receiver that is down, slow or full costs a queue of bounded size and one line in the log: requests are sent again after
a pause, and when the queue is full the oldest ones are lost. The end of the server waits a bounded time.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from homeport.contract import recorded, tracing
from homeport.contract.dataclass import dataclass
from homeport.contract.recorded import CONTAINER, ENDPOINT, ID, MISSING, PARKED, TRACE
from homeport.contract.scope import Scope
from homeport.control.reporting.traces import spans
from homeport.control.reporting.traces.spans import Ended, Server, Span
from homeport.state.coldstarts import ColdStart
from homeport.state.requests import Place

QUEUED = 10_000  # requests that wait
AT_ONCE = 200  # requests in one message
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONGEST_ASKED_S = 600.0  # of the pause that a receiver asks for
FLUSH_S = 3.0  # how long the end of the server waits
TELL_EACH_S = 60.0  # lost requests are logged at most so often

Line = Sequence[str]
log = logging.getLogger(__name__)


class Unavailable(Exception):
    """The receiver does not take spans now; the same ones may be sent again."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """The receiver will never take these spans, or not all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The server's knowledge about requests; each function is called on the event loop."""

    place: Callable[[str], Place | None]  # of an endpoint
    revision: Callable[[str], str]  # of a container
    versions: Callable[[], dict[str, int]]  # of the live revisions
    start: Callable[[Scope, str, str], ColdStart | None]  # of a container of that app


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A request's line, with the facts that the server had when it was read."""

    words: Line
    place: Place
    revision: str
    version: int
    start: ColdStart | None


class Exporter:
    """Sends the spans of requests."""

    def __init__(
        self,
        send: Callable[[Sequence[Span]], None],
        server: Callable[[], Server],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` sends some spans and waits; it raises `Unavailable` or `Refused`."""
        self._send = send
        self._server = server
        self._clock = clock
        self._queue: deque[Noted] = deque()
        self._news = threading.Condition()
        self._lost = 0
        self._tell_at = 0.0
        self._resume_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._is_failing = self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def add(self, lines: Iterable[Line], places: Known) -> None:
        """Queue the requests of these lines that are sampled. Never waits for the receiver."""
        sampled = [words for words in lines if _is_sampled(words)]
        if not sampled:
            return
        versions = places.versions()
        noted = []
        for words in sampled:
            if (place := places.place(words[ENDPOINT])) is None:
                continue
            container = words[CONTAINER]
            revision = places.revision(container)
            noted.append(
                Noted(
                    words=words,
                    place=place,
                    revision=revision,
                    version=versions.get(revision, 0),
                    start=None
                    if words[PARKED] == MISSING
                    else places.start(place.scope, place.app, container),
                )
            )
        with self._news:
            self._queue.extend(noted)
            self._shorten()
            self._news.notify()

    def close(self, within_s: float = FLUSH_S) -> None:
        """Send what waits, for a bounded time. Blocks."""
        with self._news:
            self._is_closing = True
            self._news.notify()
        self._thread.join(within_s)
        with self._news:
            unsent = len(self._queue) + self._lost
            self._queue.clear()
        if unsent:
            log.warning("%d requests were not exported as traces before the end", unsent)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._deliver(batch)
            except Exception:
                self._lose(len(batch))
                if not self._is_failing:
                    log.exception("requests are not exported as traces")
                self._is_failing = True

    def _next(self) -> list[Noted] | None:
        """Wait for requests that may be sent now; None at the end."""
        with self._news:
            while not self._is_closing:
                wait_s = self._resume_at - self._clock()
                if self._queue and wait_s <= 0:
                    break
                self._news.wait(wait_s if self._queue else None)
            if not self._queue:
                return None
            return [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]

    def _deliver(self, batch: list[Noted]) -> None:
        server = self._server()
        new_spans = [span for noted in batch for span in spans.of(_ended(noted), server)]
        try:
            self._send(new_spans)
        except Unavailable as failure:
            with self._news:
                self._queue.extendleft(reversed(batch))
                self._shorten()
                if self._is_closing:
                    self._lost += len(self._queue)
                    self._queue.clear()
            pause_s = self._pause_s if failure.retry_after_s is None else failure.retry_after_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._resume_at = self._clock() + min(pause_s, LONGEST_ASKED_S)
            self._fail(f"{failure}; they are kept and sent later, the last {QUEUED} at most")
        except Refused as failure:
            self._lose(len(batch))
            self._fail(f"{failure}")
        else:
            self._pause_s = FIRST_PAUSE_S
            self._succeed()

    def _shorten(self) -> None:
        while len(self._queue) > QUEUED:
            self._queue.popleft()
            self._lost += 1

    def _lose(self, count: int) -> None:
        with self._news:
            self._lost += count

    def _fail(self, why: str) -> None:
        """Log the first failure of several."""
        if not self._is_failing:
            log.warning("requests cannot be exported as traces: %s", why)
        self._is_failing = True

    def _succeed(self) -> None:
        now = self._clock()
        with self._news:
            lost = self._lost if self._is_failing or now >= self._tell_at else 0
            self._lost -= lost
        if self._is_failing:
            log.warning("requests are exported as traces again; %d were lost", lost)
        elif lost:
            log.warning("%d requests were not exported as traces: the receiver is too slow", lost)
        if lost:
            self._tell_at = now + TELL_EACH_S
        self._is_failing = False


def _is_sampled(words: Line) -> bool:
    word = words[TRACE]
    if word in (MISSING, tracing.UNSAMPLED):
        return False
    trace = tracing.of_word(word, words[ID])
    return trace is not None and trace.sampled


def _ended(noted: Noted) -> Ended:
    request = recorded.decode(noted.words)
    assert request.trace is not None  # `add` takes no other
    return Ended(
        request=request,
        trace=request.trace,
        place=noted.place,
        revision=noted.revision,
        version=noted.version,
        start=noted.start,
    )
