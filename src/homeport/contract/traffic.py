"""Endpoints, pools and load: the border between the control plane and the ingress."""

import urllib.parse
from dataclasses import field

from homeport.contract.calls import PREFIX
from homeport.contract.dataclass import dataclass
from homeport.contract.rates import Rate
from homeport.contract.tracing import Trace

BY_PORT = "X-Homeport-By-Port"  # in requests that arrive at the endpoint's own port


@dataclass(frozen=True, slots=True, order=True)
class PoolKey:
    """The name of a pool: the containers that can answer the same request."""

    app: str
    function: str
    revision: str
    parameters: str = ""  # canonical query string of class parameters, sorted by name

    def __str__(self) -> str:
        text = "/".join(
            urllib.parse.quote(part, safe="") for part in (self.app, self.function, self.revision)
        )
        return f"{text}?{self.parameters}" if self.parameters else text

    @property
    def base(self) -> "PoolKey":
        """The key of the function's version, without class parameters, because visitors choose those.

        >>> PoolKey("a", "C.*", "rv-1", "n=1").base == PoolKey("a", "C.*", "rv-1").base
        True
        """
        return PoolKey(self.app, self.function, self.revision) if self.parameters else self

    @staticmethod
    def parse(text: str) -> "PoolKey":
        """Return the key that `str` wrote."""
        path, _, parameters = text.partition("?")
        app, function, revision = (urllib.parse.unquote(part) for part in path.split("/"))
        return PoolKey(app, function, revision, parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Where the ingress finds the containers of another machine, whose addresses are `peer:NODE/LABEL`."""

    host: str  # an IP address
    port: int
    name: str  # in the machine's certificate, for `LABEL.name`
    id: str = ""  # the subject of its certificate; empty: its containers call nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """Where visitors come in at a machine."""

    host: str  # the address to listen at
    http: int  # the ports
    https: int = 0  # 0: there is no TLS

    @property
    def is_everywhere(self) -> bool:
        """Whether that is at every address of the machine."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A URL, or the address of a function's calls, and the pool behind it, as the ingress needs to know it.

    `id` outlives revisions, and holds only `[a-z0-9-]`: it is the URL's first label, or `calls.endpoint_id`.
    """

    id: str
    hosts: tuple[str, ...]  # lower case, without port; a custom domain may begin with `*.`
    pool: PoolKey
    tag: str = ""  # what its app calls it: the function, or `Class.method`
    method: str = ""  # the web method's attribute, where its class has several; else empty
    local_port: int | None = None  # a port of its own, for resolvers that do not know *.localhost
    protected: bool = False  # requires_proxy_auth
    realm: str = ""  # of the proxy tokens that open it, in hex (`Ingress.tokens`)
    realms: tuple[str, ...] = ()  # of narrower tokens: of its app, and of its function
    #: The key of its rate limit, in hex (`Ingress.rates`); several endpoints may share one.
    limited: str = ""
    parameters: tuple[
        str, ...
    ] = ()  # names that choose another pool when the query string has them
    timeout_s: float = 300.0  # its function's: the ingress answers 504 a little later than that
    #: Of a call, as `calls.Retries.text` writes it: the ingress sends it to the caller.
    retries: str = ""

    @property
    def is_called(self) -> bool:
        """True if it is for calls: it has no host, and no visitor can reach it."""
        return self.id.startswith(PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The part of an endpoint's requests that another endpoint's pool answers: that of a canary."""

    endpoint: str  # Endpoint.id of the other one
    per_mille: int  # from 1 to 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A proxy token, as the ingress checks it. Times are in seconds since the epoch."""

    sha256: str  # of its secret, in hex
    until: float | None = None  # when it expires; None: never
    former_sha256: str = ""  # of the secret before; empty: there is none
    former_until: float = 0.0  # when the secret before stops to open anything
    rate: Rate | None = None  # None: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """A request that has ended, as the ingress saw it.

    `method`, `path` and `query` are a visitor's text, in printable ASCII without blanks.
    """

    endpoint: str  # Endpoint.id
    method: str
    path: str  # without its query; cut if it is very long
    status: int  # of the response; 0 if the visitor left before there was one
    duration_ms: int  # until the last byte; of a WebSocket, until it was closed
    container: str = ""  # empty: the ingress has answered
    cold: bool = False  # no container was ready when it came
    id: str = ""  # its X-Request-Id
    kind: str = "visit"  # or `call`: a function was called
    at: float = 0.0  # when it came, in seconds since the epoch
    query: str = ""  # empty unless queries are recorded
    client: str = ""  # the visitor's address; empty unless addresses are recorded
    received_bytes: int = 0
    sent_bytes: int = 0
    #: The milliseconds of each part, which follow each other: received, parked, queued, connected, app (until the
    #: first byte of the response), stream. One that took none is missing.
    parts_ms: dict[str, int] = field(default_factory=dict)
    ended: str = ""  # why it ended early, such as `visitor left`; empty: it did not
    trace: Trace | None = None  # None: traces are not exported


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of one pool, as the ingress measures it."""

    running: int = 0  # requests inside containers
    queued: int = 0  # requests that wait for a slot
    served: int = 0  # since the ingress started
    errors: int = 0  # 5xx since the ingress started
    per_container: dict[str, int] = field(default_factory=dict)  # container id -> running
    served_by: dict[str, int] = field(default_factory=dict)  # container id -> requests it answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached:
    """The last numbers of a container that the ingress has forgotten."""

    served: int = 0  # requests that it answered in all; there can be no more
