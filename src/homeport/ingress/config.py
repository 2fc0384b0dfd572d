"""The whole of haproxy.cfg, as a pure function of what the ingress knows.

The order of a request's checks is that of behaviour spec 2.7: host, credentials, rate, size, pool.
What differs between endpoints lives in maps, so that a deploy changes no line of this.
Files are named relative to the directory in which HAProxy is started: a home's path may hold anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_BODY_BYTES = 4 * 1024**3
BURST_S = 5
# A pool can be swapped for another while a request waits: it looks again, so many times.
ROUNDS = 3
HOPS = 100
LINE_BYTES = 256  # of the ring's lines: a longer one loses its end, which is the request's path
AGAIN = "again"  # the server of every backend that leads back to the front door
MAPS = (
    "hosts",
    "ports",
    "pools",
    "methods",
    "protected",
    "parameters",
    "timeouts",
    "backends",
    "tokens",
)
# A program of the user's may leave a request's body unread, and what is left is then the beginning of the
# connection's next request: so each connection has one request, and no other visitor's ever.
UNSHARED_RULES = ("  http-reuse never", "  option http-server-close")
# A container that does not end an overdue request itself is cut off a little later.
TIMEOUT_RULES = tuple(
    f"  http-request set-timeout {which} var(txn.timeout)" for which in ("server", "tunnel")
)
SHARED, UNSHARED = "b", "u"  # what the names of backends begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A container, as HAProxy knows it."""

    name: str
    address: str  # `abns@name`, `unix@/path` or `127.0.0.1:8000`
    slots: int
    draining: bool = False
    held: int = 0  # slots that nobody gets for now

    @property
    def full(self) -> bool:
        """Whether every slot is held."""
        return self.held >= self.slots

    @property
    def open(self) -> bool:
        """Whether it takes new requests."""
        return not (self.draining or self.full)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a configuration is made of."""

    control: str  # the Runtime API's socket
    again: str  # the socket where requests come in once more
    api: str  # the control plane's socket, for `/metrics` alone
    listeners: tuple[int, ...]  # descriptors of listening sockets, the main port's first
    requests_per_s: int  # 0: no limit
    max_connections: int
    backends: Mapping[str, int]  # SHARED and UNSHARED -> how many of that kind
    servers: Mapping[str, Sequence[Server]] = field(default_factory=dict)  # backend -> containers


def backend_name(prefix: str, number: int) -> str:
    """The name of one of the interchangeable backends."""
    return f"{prefix}{number}"


def server_words(server: Server) -> tuple[str, ...]:
    """The server's line, without its name, as both the configuration and the Runtime API take it.

    One refused connection is enough to know that a container is gone, before the node says so; while
    it is up nobody checks it, and a `web_server` that comes back is seen within 0.1 s.
    """
    # A server whose slots are all held is in maintenance, and `maxconn 0` would mean no limit.
    options = (
        f"maxconn {max(server.slots - server.held, 1)} check inter 1h downinter 100ms rise 1 fall 1 "
        "observe layer4 error-limit 1 on-error mark-down"
    )
    return (server.address, *options.split())


def render(config: Config) -> str:
    """haproxy.cfg."""
    return "\n".join(
        [
            *_global(config),
            *_defaults(),
            *_frontend(config),
            *_again(config),
            *_limits(),
            *_backends(config),
            "",
        ]
    )


def _global(config: Config) -> list[str]:
    return [
        "global",
        f"  maxconn {config.max_connections}",
        "  no strict-limits",
        f"  stats socket unix@{config.control} mode 600 level admin",
        "  stats timeout 1h",
        "  tune.bufsize 32768",
        "  tune.http.maxhdr 256",
        "  lua-load-per-thread ./park.lua",
        "",
        "ring requests",
        "  format raw",
        f"  maxlen {LINE_BYTES}",
        "  size 131072",
        "",
    ]


def _defaults() -> list[str]:
    errors = {
        400: "the request cannot be read",
        408: "the request did not arrive in time",
        500: "the ingress failed",
        502: "the container ended before it answered",
        503: "no container takes the request now",
        504: "the container did not answer in time",
    }
    return [
        "defaults",
        "  mode http",
        "  option abortonclose",
        "  option http-no-delay",
        # A process that hands over announces the close first, so that no visitor's request races it.
        "  option idle-close-on-response",
        "  option redispatch 1",
        # Nothing of the request has been sent when a connection fails, so trying again is safe.
        "  retries 3",
        "  retry-on conn-failure",
        # Not `always`: a container that dies on another visitor's connection would be a silent
        # close, where 502 is due.
        "  http-reuse safe",
        "  timeout connect 5s",
        "  timeout http-request 60s",
        "  timeout http-keep-alive 30s",
        # How long a request takes is its function's `timeout`: see TIMEOUT_RULES.
        "  timeout client 24d",
        "  timeout server 24d",
        "  timeout queue 24d",
        "  timeout tunnel 24d",
        "  timeout client-fin 30s",
        "  timeout server-fin 30s",
        *(
            f"  http-error status {status} content-type text/plain "
            f'string "homeport: {text}\\n"' + (" hdr Retry-After 1" if status == 503 else "")
            for status, text in errors.items()
        ),
        "",
    ]


def _frontend(config: Config) -> list[str]:
    lines = [
        "frontend web",
        *(f"  bind fd@{descriptor}" for descriptor in config.listeners),
        "  log ring@requests format raw local0",
        # The path comes last, for it is the visitor's: HAProxy writes blanks and controls as `#20`.
        '  log-format "%rt %Ta %ST %s %Tr %[var(txn.endpoint)] %[var(txn.parked)] %HM %HPO"',
        "  unique-id-format %[uuid()]",
        "  http-after-response set-header X-Request-Id %[unique-id]",
        "  http-after-response set-header Modal-Function-Call-Id fc-%[unique-id]",
        "",
        *_endpoint(_metrics()),
        *_return(400, "prohibited modal header", "{ req.hdr_cnt(modal-function-call-id) gt 0 }"),
        "",
        "  # who asks",
        *_set("protected", f"var(txn.endpoint),{_map('protected')}"),
        "  acl protected var(txn.protected) -m found",
        *_set("key", "req.hdr(modal-key)"),
        *_set("secret", "req.hdr(modal-secret)"),
        "  acl bearer var(txn.bearer) -m found",
        "  acl pair var(txn.key) -m found",
        "  http-request set-var(txn.bearer) http_auth_bearer if protected !pair",
        "  http-request set-var(txn.key) var(txn.bearer),field(1,.) if bearer",
        "  http-request set-var(txn.secret) var(txn.bearer),field(2,.) if bearer",
        *_set("expected", f"var(txn.key),{_map('tokens')}"),
        *_set("given", "var(txn.secret),sha2(256),hex,lower"),
        *_return(
            401,
            "missing credentials for proxy authorization",
            "protected !pair",
        ),
        *_return(
            401,
            "invalid credentials for proxy authorization",
            "protected !{ var(txn.given),secure_memcmp(txn.expected) -m bool }",
        ),
        "  http-request del-header modal-key",
        "  http-request del-header modal-secret",
        "  http-request del-header authorization if bearer",
        "",
    ]
    if config.requests_per_s:
        limit = config.requests_per_s * BURST_S
        lines += [
            "  # how often, over all endpoints; what is refused does not count",
            "  http-request track-sc0 int(1) table limits",
            *_return(
                429,
                "too many requests",
                f"{{ sc0_gpc0_rate(limits) ge {limit} }}",
                "Retry-After 1",
            ),
            "  http-request sc-inc-gpc0(0)",
            "",
        ]
    return [
        *lines,
        *_return(
            413,
            "the body is larger than 4 GiB",
            f"{{ req.hdr(content-length),sub({MAX_BODY_BYTES}) gt 0 }}",
        ),
        "",
        "  # what the app sees; what a visitor says of it is replaced",
        "  http-request set-header X-Request-Id %[unique-id]",
        "  http-request set-header X-Forwarded-For %[src]",
        "  http-request set-header X-Forwarded-Proto http",
        "  http-request set-header X-Forwarded-Port %[dst_port]",
        "  http-request del-header X-Forwarded-Host",
        "  http-request del-header X-Real-IP",
        "  http-request del-header Forwarded",
        "  http-request del-header X-Homeport-Method",
        "  http-request del-header X-Homeport-Hops",
        *_set("method", f"var(txn.endpoint),{_map('methods')}"),
        "  acl several var(txn.method) -m found",
        "  http-request set-header X-Homeport-Method %[var(txn.method)] if several",
        "",
        *_to_pool(),
        "  use_backend metrics if metrics",
    ]


def _metrics() -> list[str]:
    """`/metrics` for Prometheus: for this machine, where no endpoint has the host."""
    return [
        "  acl from_here src 127.0.0.0/8 ::1",
        "  acl proxied var(txn.proxied) -m found",
        *(
            f"  http-request set-var(txn.proxied) bool(true) if {{ req.hdr({name}) -m found }}"
            for name in ("x-forwarded-for", "forwarded", "via")
        ),
        "  acl known var(txn.endpoint) -m found",
        "  acl metrics var(txn.metrics) -m found",
        "  acl asks path /metrics",
        "  http-request set-var(txn.metrics) bool(true) if asks from_here !proxied !known",
        "  http-request allow if metrics",
    ]


def _again(config: Config) -> list[str]:
    """The way back: what a backend without containers cannot answer comes in once more, to park.

    Every process leads here to the newest one, which has taken the socket's name over.
    """
    return [
        f"frontend {AGAIN}-in",
        f"  bind unix@{config.again} accept-proxy mode 600",
        "  http-request set-var(txn.came_back) bool(true)",
        "  http-request lua.pause",
        # What is not there has no successor: without the 0, nobody would ever count.
        "  http-request set-header X-Homeport-Hops 0 unless { req.hdr(x-homeport-hops) -m found }",
        "  http-request set-header X-Homeport-Hops %[req.hdr(x-homeport-hops),add(1)]",
        *_return(
            503,
            "no container takes the request now",
            f"{{ req.hdr(x-homeport-hops) gt {HOPS} }}",
            "Retry-After 1",
        ),
        *_endpoint(),
        *_to_pool(),
    ]


def _endpoint(unless_unknown: Sequence[str] = ()) -> list[str]:
    return [
        "  # which endpoint: a port of its own, a host, or a wildcard's host",
        *_set("endpoint", f"dst_port,{_map('ports')}"),
        *_set("host", "req.hdr(host),host_only,lower"),
        *_set("endpoint", f"var(txn.host),{_map('hosts')}", unless="endpoint"),
        *_set(
            "endpoint",
            f"var(txn.host),regsub(^[^.]*,*),{_map('hosts')}",
            unless="endpoint",
        ),
        *unless_unknown,
        "  http-request lua.unknown unless { var(txn.endpoint) -m found }",
    ]


def _to_pool() -> list[str]:
    lines = [
        "  # which pool, and is a container there",
        *_set("parameters", f"var(txn.endpoint),{_map('parameters')}"),
        "  acl usable var(txn.backend) -m found",
    ]
    backend = f"var(txn.pool),{_map('backends')}"
    for number in range(ROUNDS):
        again = " unless usable" if number else ""
        lines += [
            f"  http-request set-var(txn.pool) var(txn.endpoint),{_map('pools')}{again}",
            "  http-request lua.parameters if { var(txn.parameters) -m found }"
            + (" !usable" if number else ""),
            f"  http-request unset-var(txn.backend){again}",
            f"  http-request set-var(txn.backend) {backend}{again}",
            "  http-request lua.park unless usable",
        ]
    return [
        *lines,
        # What the last park let go has not been looked up yet.
        f"  http-request set-var(txn.backend) {backend} unless usable",
        *_set("timeout", "var(txn.endpoint),map_str_int(timeouts.map)"),
        "  use_backend %[var(txn.backend)] if usable",
        f"  default_backend {AGAIN}",
    ]


def _limits() -> list[str]:
    return [
        "backend limits",
        f"  stick-table type integer size 1 expire 1m store gpc0,gpc0_rate({BURST_S}s)",
        "",
    ]


def _backends(config: Config) -> list[str]:
    lines = [
        f"backend {AGAIN}",
        f"  server {AGAIN} unix@{config.again} send-proxy-v2",
        "backend metrics",
        f"  server control unix@{config.api}",
    ]
    for prefix, count in config.backends.items():
        for number in range(count):
            name = backend_name(prefix, number)
            lines += [
                f"backend {name}",
                "  balance leastconn",
                *TIMEOUT_RULES,
                *(UNSHARED_RULES if prefix == UNSHARED else ()),
                f"  server {AGAIN} unix@{config.again} send-proxy-v2 backup",
            ]
            lines += [
                " ".join(("  server", server.name, *server_words(server)))
                for server in config.servers.get(name, ())
            ]
    return lines


def _map(name: str) -> str:
    return f"map_str({name}.map)"


def _set(name: str, expression: str, *, unless: str = "") -> list[str]:
    condition = f" unless {{ var(txn.{unless}) -m found }}" if unless else ""
    return [f"  http-request set-var(txn.{name}) {expression}{condition}"]


def _return(status: int, text: str, condition: str, header: str = "") -> list[str]:
    header = f" hdr {header}" if header else ""
    reply = f'status {status} content-type text/plain string "homeport: {text}\\n"{header}'
    return [f"  http-request return {reply} if {condition}"]
