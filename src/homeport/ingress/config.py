"""The whole of haproxy.cfg, as a pure function of what the ingress knows.

What differs between endpoints lives in maps, so that a deploy changes no line of this.
Files are named relative to the directory in which HAProxy is started: a home's path may hold anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homeport.ingress import rules
from homeport.ingress.rules import AGAIN, WAYS_BACK

LINE_BYTES = 256  # of the ring's lines: a longer one loses its end, which is the request's path
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
# 425 is the relay's word for a request that no program has seen (runner/servers/relay.py).
UNSHARED_RULES = (
    "  http-reuse never",
    "  option http-server-close",
    "  retry-on conn-failure 425",
)
# A container that does not end an overdue request itself is cut off a little later.
TIMEOUT_RULES = tuple(
    f"  http-request set-timeout {which} var(txn.timeout)" for which in ("server", "tunnel")
)
# What park.lua has written as HTML says so.
PAGES = (
    (
        '  http-after-response set-header Content-Type "text/html; charset=utf-8" '
        "if { var(txn.page) -m found }"
    ),
)
VANISHED_S = 60
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
    per_source: int  # requests at once from one address; 0: no limit
    max_connections: int  # of visitors
    trusted_proxies: Sequence[str] = ()  # networks whose word on a visitor is believed
    own_hosts: Sequence[str]  # where `/metrics` and the list of endpoints are
    domain: str  # of all endpoints
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
            *rules.tables(config.per_source),
            *_backends(config),
            "",
        ]
    )


def _global(config: Config) -> list[str]:
    return [
        "global",
        # A request that comes in again has a second connection, and must never wait for its own end.
        f"  maxconn {2 * config.max_connections + 100}",
        "  no strict-limits",
        f"  stats socket unix@{config.control} mode 600 level admin",
        "  stats timeout 1h",
        # Larger than a head may be: only so can one that is too large be answered in our words.
        f"  tune.bufsize {4 * rules.MAX_HEAD_BYTES}",
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
            f'  http-error status {status} content-type "text/plain; charset=utf-8" '
            f'lf-string "%[lua.page({status},{text})]\\n"'
            + (" hdr Retry-After 1" if status == 503 else "")
            for status, text in rules.TEXTS.items()
        ),
        "",
    ]


def _frontend(config: Config) -> list[str]:
    return [
        "frontend web",
        # A visitor who vanished is noticed: by probes when idle, by what is not acknowledged else.
        *(f"  bind fd@{descriptor} tcp-ut {VANISHED_S}s" for descriptor in config.listeners),
        f"  maxconn {config.max_connections}",
        "  option clitcpka",
        "  clitcpka-idle 60s",
        "  clitcpka-intvl 15s",
        "  clitcpka-cnt 4",
        *rules.connections(per_source=config.per_source, trusted_proxies=config.trusted_proxies),
        "  log ring@requests format raw local0",
        # The path comes last, for it is the visitor's: HAProxy writes blanks and controls as `#20`.
        '  log-format "%rt %Ta %ST %s %Tr %[var(txn.endpoint)] %[var(txn.parked)] %HM %HPO"',
        "  unique-id-format %[uuid()]",
        *rules.responses(),
        "  http-after-response set-header X-Request-Id %[unique-id]",
        "  http-after-response set-header Modal-Function-Call-Id fc-%[unique-id]",
        *PAGES,
        "",
        *rules.web(
            requests_per_s=config.requests_per_s,
            per_source=config.per_source,
            trusted_proxies=config.trusted_proxies,
            own_hosts=config.own_hosts,
            domain=config.domain,
        ),
    ]


def _again(config: Config) -> list[str]:
    """Every process leads here to the newest one, which has taken the socket's name over."""
    return [
        f"frontend {AGAIN}-in",
        f"  bind unix@{config.again} accept-proxy mode 600",
        *PAGES,
        *rules.again(trusted=bool(config.trusted_proxies)),
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
                "  option allbackups",
                *(f"  server {way} unix@{config.again} send-proxy-v2 backup" for way in WAYS_BACK),
            ]
            lines += [
                " ".join(("  server", server.name, *server_words(server)))
                for server in config.servers.get(name, ())
            ]
    return lines
