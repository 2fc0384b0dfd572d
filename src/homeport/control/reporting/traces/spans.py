"""The spans of a request that has ended: one for all of it, and below it one for each of its parts.

    GET shop.web                 the request; the container's `traceparent` names it
      received                   the parts, as in `homeport request show`
      parked
        scheduled, forked, …     the parts of the container's start that it waited for
      queued, connected, app, stream

The app's own spans are below the request and not below its part `app`: that part ends with the first byte of the
response, and is missing if it took less than a millisecond. Attributes are those of OpenTelemetry's semantic conventions
for HTTP (stable since 1.23), and `homeport.…`.
"""

from collections.abc import Iterator
from dataclasses import field

from homeport.contract import names, tracing
from homeport.contract.dataclass import dataclass
from homeport.contract.tracing import Trace
from homeport.contract.traffic import RequestRecord
from homeport.state.coldstarts import FIRST_BYTE, ColdStart
from homeport.state.requests import Place

#: The methods that the conventions know; another one is `_OTHER`.
METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
OF_START = 0x100  # the numbers of spans of a container's start begin here
PARKED = "parked"

Value = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span; times are in nanoseconds since the epoch."""

    trace: str
    id: str
    parent: str = ""  # empty: the trace begins with it
    is_remote: bool = False  # the parent is another program's
    is_server: bool = False  # it is a request, and no part of one
    name: str
    begin_ns: int
    end_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str | None = None  # why it failed, perhaps empty; None: it did not


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A request that has ended, with the server's facts about it."""

    request: RequestRecord
    trace: Trace
    place: Place
    revision: str = ""
    version: int = 0  # of the app; 0: a session's, or it is not known
    start: ColdStart | None = None  # of the container that it waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The values that are the same in all requests of a server."""

    domain: str
    scheme: str
    port: int


def of(ended: Ended, server: Server) -> Iterator[Span]:
    """Yield the spans of a request, itself first."""
    request, trace = ended.request, ended.trace
    begin_ns = round(request.at * 1e3) * 1_000_000
    own = tracing.span_id(request.id, tracing.REQUEST)
    yield Span(
        trace=trace.id,
        id=own,
        parent=trace.parent,
        is_remote=trace.parent != "",
        is_server=True,
        name=_name(ended),
        begin_ns=begin_ns,
        end_ns=begin_ns + request.duration_ms * 1_000_000,
        attributes={name: value for name, value in _attributes(ended, server) if value != ""},
        error=_error(request),
    )
    at_ns = begin_ns
    for number, (name, took_ms) in enumerate(request.parts_ms.items(), tracing.REQUEST + 1):
        part = Span(
            trace=trace.id,
            id=tracing.span_id(request.id, number),
            parent=own,
            name=name,
            begin_ns=at_ns,
            end_ns=at_ns + took_ms * 1_000_000,
        )
        yield part
        if name == PARKED and ended.start is not None:
            yield from _of_start(ended.start, request.id, part)
        at_ns = part.end_ns


def _of_start(start: ColdStart, request: str, parked: Span) -> Iterator[Span]:
    """Yield the parts of a container's start, as far as the request waited for them."""
    at_ns = round(start.at * 1e9)
    for number, (name, took_ms) in enumerate(start.timings_ms.items(), OF_START):
        begin_ns, at_ns = at_ns, at_ns + round(took_ms * 1e6)
        begin_ns, end_ns = max(begin_ns, parked.begin_ns), min(at_ns, parked.end_ns)
        if begin_ns < end_ns and name not in (PARKED, FIRST_BYTE):
            yield Span(
                trace=parked.trace,
                id=tracing.span_id(request, number),
                parent=parked.id,
                name=name,
                begin_ns=begin_ns,
                end_ns=end_ns,
                attributes={
                    "homeport.container": start.container,
                    "homeport.origin": start.origin,
                },
            )


def _name(ended: Ended) -> str:
    """Return a name of which there are few: a path may be another one in each request."""
    request = ended.request
    kind = "call" if request.kind == "call" else _method(request)
    return f"{kind} {names.endpoint(ended.place.app, ended.place.tag)}"


def _method(request: RequestRecord) -> str:
    return request.method if request.method in METHODS else "HTTP"


def _attributes(ended: Ended, server: Server) -> Iterator[tuple[str, Value]]:
    request, place = ended.request, ended.place
    is_standard = request.method in METHODS
    yield "http.request.method", request.method if is_standard else "_OTHER"
    if not is_standard:
        yield "http.request.method_original", request.method
    if request.kind == "visit":
        yield "url.scheme", server.scheme
        yield "url.path", request.path
        yield "server.address", f"{request.endpoint}.{server.domain}"
        yield "server.port", server.port
    if request.query:
        yield "url.query", request.query
    if request.client:
        yield "client.address", request.client
    if request.status:
        yield "http.response.status_code", request.status
    if request.ended or request.status >= 500:
        yield "error.type", request.ended or str(request.status)
    yield "homeport.request", request.id
    yield "homeport.kind", request.kind
    yield "homeport.app", place.app
    yield "homeport.function", place.tag
    yield "homeport.workspace", place.scope.workspace
    yield "homeport.environment", place.scope.environment
    if request.kind == "visit":  # anyone who knows the id of an endpoint for calls may call it
        yield "homeport.endpoint", request.endpoint
    yield "homeport.revision", ended.revision
    if ended.version:
        yield "homeport.version", ended.version
    yield "homeport.container", request.container
    yield "homeport.cold", request.cold
    yield "homeport.received_bytes", request.received_bytes
    yield "homeport.sent_bytes", request.sent_bytes


def _error(request: RequestRecord) -> str | None:
    """Return why a request failed; of a visitor's own fault, a span of a server says nothing (conventions for HTTP)."""
    if request.ended:
        return request.ended
    return "" if request.status >= 500 else None
