"""Requests and calls that have ended."""

from dataclasses import field

from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A visitor's request to an endpoint, or a call of a function, that has ended."""

    id: str  # its `X-Request-Id`
    kind: str  # `visit` or `call`
    at: float  # when it came
    app: str
    tag: str  # of its endpoint: the function, or `Class.method`
    version: (
        int | None
    )  # of the app, as the container runs it; null: no container answered, or a session's
    container: str  # empty: homeport has answered itself
    node: str = ""  # the machine that has joined and runs the container; empty: the server's own
    method: str
    path: str  # cut if it is very long
    query: str  # empty unless the setting `request_details` has `queries`
    client: str  # the visitor's address; empty unless the setting `request_details` has `addresses`
    status: int  # of the response; 0 if the visitor left before there was one
    received_bytes: int  # the head and the body that arrived
    sent_bytes: int  # the head and the body of the response
    total_ms: int  # until the last byte
    #: The parts follow each other without a gap: received, parked, queued, connected, app, stream. `app` lasts until the first
    #: byte of the response. A part that took less than a millisecond is not there.
    parts_ms: dict[str, int] = field(default_factory=dict)
    cold: bool = False  # no container was ready when it came
    #: Why it ended early: `visitor left`, `timeout`, `container ended` …; empty: it did not.
    ended: str = ""
    trace: str = ""  # the id of its trace, 32 hexadecimal digits; empty: traces are not exported


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestList:
    """Requests, the last to end last."""

    requests: tuple[RecordedRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQuery:
    """Which requests are wanted. What is empty does not choose."""

    tail: int = 20  # the last so many
    app: str = ""
    tag: str = ""  # the function, or `Class.method`
    container: str = ""
    method: str = ""
    path: str = ""  # the beginning of the path
    status: str = ""  # `404`, or `5xx` for all from 500 to 599
    since: float = 0.0  # those that ended since then
    until: float = 0.0  # those that ended before then
    slower: int = 0  # those that took at least so many milliseconds
    cold: bool = False  # those alone that had to wait for a container
    trace: str = ""  # the id of a trace
    failed: bool = False  # those alone with a status of 500 or more, or that ended early


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetail:
    """One request, with the start of the container that it waited for, and what was printed for it."""

    request: RecordedRequest
    start: ColdStart | None  # null: it was not cold, or the start is not kept any more
    lines: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequests:
    """A line of the stream of requests: those that have ended since the line before."""

    requests: tuple[RecordedRequest, ...]
    lost: int = 0  # how many are missing after them, because the reader of the stream was too slow


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveQuery:
    """Which requests are wanted from now on. What is empty does not choose."""

    tail: int = 0  # the last so many come first
    app: str = ""
    tag: str = ""  # the function, or `Class.method`
    container: str = ""
    method: str = ""
    path: str = ""  # the beginning of the path
    status: str = ""  # `404`, or `5xx` for all from 500 to 599
    slower: int = 0  # those that took at least so many milliseconds
    trace: str = ""  # the id of a trace
    cold: bool = False  # those alone that had to wait for a container
    failed: bool = False  # those alone with a status of 500 or more, or that ended early
