"""A request that was captured with its response, and how long it is kept. Others wrote its content: it is data."""

from dataclasses import field

from homeport.contract.dataclass import dataclass

KEPT_S = 24 * 3600.0
MOST_BODY_BYTES = 1024 * 1024  # that may be asked for
#: Fields with credentials: a request with one of them is not sent to code that is being edited.
CREDENTIALS = frozenset(
    ("authorization", "proxy-authorization", "cookie", "modal-key", "modal-secret", "x-api-key")
)
SAFE = ("GET", "HEAD")  # methods that change nothing (RFC 9110, 9.2.1)
OF = 10_000  # a share of the requests is given in ten-thousandths
HEAD_BYTES = 256 * 1024  # of a request's and a response's fields together

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or a response."""

    fields: Fields = ()  # of the head, without those that hold credentials
    body: bytes = field(default=b"", repr=False)
    body_bytes: int = 0  # of the whole body, as far as the app has read or written it
    cut: bool = False  # the body is longer than what is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A request and its response."""

    id: str  # its X-Request-Id
    at: float = 0.0  # when it came into the container, in seconds since the epoch
    app: str = ""
    tag: str = ""  # the function, or `Class.method`
    version: int = 0  # of the app
    method: str
    target: str  # the path and the query
    request: Message
    status: int  # of the response; 0: there was none
    response: Message
    took_ms: int = 0  # inside the container
    removed: tuple[str, ...] = ()  # the names of fields that were removed
