"""Renders haproxy.cfg, as a pure function of `Config`.

Everything that differs between endpoints is in maps, so a deploy changes no line of the configuration.
File names are relative to HAProxy's working directory, because the path of a home may have any characters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.recorded import MISSING
from homeport.contract.traffic import BY_PORT, Peer
from homeport.ingress import elsewhere, guards, inside, nodes, remote, rules, secure
from homeport.ingress.elsewhere import Elsewhere
from homeport.ingress.rules import AGAIN, AGAIN_SLOTS
from homeport.ingress.unusual import MAX_HEAD_BYTES

LINE_BYTES = 1024  # of the ring's lines; of a longer one HAProxy cuts off the end: the path
METHOD_BYTES = 20
RING_BYTES = 1024 * 1024  # several thousand lines, until they are read
MAPS = (
    "hosts",
    "ports",
    "pools",
    "methods",
    "guards",
    "parameters",
    "timeouts",
    "retries",
    "backends",
    "quiet",  # changed in the running process alone: its file is empty
    "members",  # the id of each other machine -> its name
    "tokens",
    *("covered", "challenges"),  # these two with TLS alone
)
# A user's program may leave a request's body unread; the rest of it would be read as the connection's next
# request. So each connection to it carries one request.
# The relay answers 425 if no program has seen the request (runner/servers/relay.py), so retry it. Only three times,
# because a program may mean its own 425.
# Requests of one session go to one container while it takes requests (guides/servers.md).
UNSHARED_RULES = (
    "  stick-table type binary len 20 size 10k expire 30m",
    "  stick on req.hdr(modal-session-id),sha1",
    "  http-reuse never",
    "  option http-server-close",
    "  retries 3",
    "  retry-on conn-failure 425",
)
# HAProxy ends an overdue request if the container has not ended it a little earlier.
TIMEOUT_RULES = tuple(
    f"  http-request set-timeout {which} var(txn.timeout)" for which in ("server", "tunnel")
)
# park.lua sets txn.page when it has written a page in HTML.
PAGES = (
    (
        '  http-after-response set-header Content-Type "text/html; charset=utf-8" '
        "if { var(txn.page) -m found }"
    ),
)
WORDS = {
    "ended": "%[date(0,ms)]",
    "id": "%ID",
    "head": "%TR",
    "wait": "%Tw",
    "connect": "%Tc",
    "first": "%Tr",
    "total": "%Ta",
    "status": "%ST",
    "sent": "%B",
    "received": "%U",
    "how": "%ts",
    "container": "%s",
    "endpoint": "%[var(txn.endpoint)]",
    "parked": "%[var(txn.parked)]",
    "trace": MISSING,
    "client": MISSING,
    # Of another length it could push the target out of the line.
    "method": f"%[capture.req.method,bytes(0,{METHOD_BYTES})]",
    "target": "%HPO",
}
UNIQUE = "  unique-id-format %[uuid()]"
VANISHED_S = 60
RETRIED = "conn-failure"
CALLS_SHARE = 4  # containers may have one connection for this many of visitors
SHARED, UNSHARED = "b", "u"  # the first letter of the backends' names


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A container as HAProxy's server."""

    name: str
    address: str  # `abns@name`, `unix@/path` or `127.0.0.1:8000`
    slots: int
    draining: bool = False
    held: int = 0  # slots that get no new request until their work has ended
    there: Elsewhere | None = None  # on another machine, whose address this is
    peer: Peer | None = None

    @property
    def full(self) -> bool:
        """True if every slot is held."""
        return self.held >= self.slots

    @property
    def open(self) -> bool:
        """True if it takes new requests."""
        return not (self.draining or self.full)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The values in a configuration."""

    control: str  # the Runtime API's socket
    again: str  # the socket of the re-entry frontend
    api: str  # the control plane's socket, for `/metrics` alone
    inside: str  # the control plane's socket for containers
    remote: str = ""  # the control plane's socket for commands on other machines
    listeners: tuple[int, ...]  # descriptors of listening sockets, the main port's first
    secure: int | None = None  # the descriptor of the listening socket of HTTPS; None: no TLS
    https_port: int = 0
    lasting: bool = False  # browsers may remember that a host has HTTPS (RFC 6797)
    calls: int  # the descriptor of the socket by which containers call functions
    urls: int  # and of the one by which those with a network of their own reach URLs
    nodes: int | None = None  # of the port for containers of other machines; None: there is none
    nodes_calls: str = ""  # the socket to which that port leads their calls
    urls_socket: str = ""  # and their requests to URLs: where `urls` listens
    visitors: Mapping[str, str] = field(default_factory=dict)  # as in `entered.sockets`
    requests_per_s: int  # 0: no limit
    per_source: int  # requests at once from one address; 0: no limit
    max_connections: int  # of visitors
    trusted_proxies: Sequence[str] = ()  # networks whose X-Forwarded-… fields are trusted
    own_hosts: Sequence[str]  # hosts that answer `/metrics` and the list of endpoints
    domain: str  # of all endpoints
    preflights: bool = False  # those of CORS need no token
    queries: bool = False  # the lines of requests have the query
    addresses: bool = False  # and the visitor's address
    #: The share of new traces that are sampled; None: no traces are exported.
    traced: float | None = None
    backends: Mapping[str, int]  # SHARED and UNSHARED -> how many of that kind
    servers: Mapping[str, Sequence[Server]] = field(default_factory=dict)  # backend -> containers
    peers: Mapping[str, Peer] = field(default_factory=dict)  # the other machines, by name

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the process needs."""
        secure = () if self.secure is None else (self.secure,)
        port = () if self.nodes is None else (self.nodes,)
        return (*self.listeners, *secure, self.calls, self.urls, *port)


def backend_name(prefix: str, number: int) -> str:
    """Return the name of one of the interchangeable backends."""
    return f"{prefix}{number}"


def server_words(server: Server) -> tuple[str, ...]:
    """Return the server's line without its name, for the configuration and for the Runtime API.

    One refused connection marks the server as down, before the node reports that the container has ended.
    HAProxy makes no checks of a server that is up. It checks one that is down every 0.1 s, so a `web_server`
    program that listens again gets requests soon.
    """
    # `maxconn 0` would mean no limit; a server whose slots are all held is in maintenance instead.
    most = f"maxconn {max(server.slots - server.held, 1)}"
    if server.there is not None and server.peer is not None:
        return (server.address, *most.split(), *elsewhere.words(server.there, server.peer))
    options = (
        f"{most} check inter 1h downinter 100ms rise 1 fall 1 "
        "observe layer4 error-limit 1 on-error mark-down"
    )
    return (server.address, *options.split())


def render(config: Config) -> str:
    """Return the text of haproxy.cfg."""
    return "\n".join(
        [
            *_global(config),
            *_defaults(config),
            *_frontend(config),
            *_calls(config),
            *_again(config),
            *rules.tables(config.per_source, tls=config.secure is not None),
            *elsewhere.backend(config.peers),
            *_backends(config),
            *_nodes(config),
            "",
        ]
    )


def _global(config: Config) -> list[str]:
    # Each of their connections continues by a Unix socket of this process.
    of_nodes = 0 if config.nodes is None else config.max_connections // CALLS_SHARE
    of_nodes += config.max_connections if config.visitors else 0
    return [
        "global",
        # A request that enters again has a second connection; without room for it, both would wait forever.
        f"  maxconn {2 * (config.max_connections + of_nodes) + 100}",
        "  no strict-limits",
        f"  stats socket unix@{config.control} mode 600 level admin",
        "  stats timeout 1h",
        # Larger than the largest head, so that our rules can answer a head that is too large.
        f"  tune.bufsize {4 * MAX_HEAD_BYTES}",
        # Each thread keeps 16 such buffers at hand; by default it would be 4, and the others would be freed and
        # mapped again for each request.
        f"  tune.memory.hot-size {16 * 4 * MAX_HEAD_BYTES}",
        "  tune.http.maxhdr 256",
        f"  tune.stick-counters {guards.COUNTERS}",
        "  lua-load-per-thread ./park.lua",
        *([] if config.secure is None else secure.options()),
        "",
        "ring requests",
        "  format raw",
        f"  maxlen {LINE_BYTES}",
        f"  size {RING_BYTES}",
        "",
    ]


def _defaults(config: Config) -> list[str]:
    return [
        "defaults",
        "  mode http",
        "  option abortonclose",
        "  option http-no-delay",
        # A retiring process closes an idle connection only after a response with `Connection: close`,
        # so no request is lost on a connection that closes at that moment.
        "  option idle-close-on-response",
        "  option redispatch 1",
        # If the connection fails, nothing of the request has been sent, so a retry is safe. The first failure
        # marks a container as down, so a request tries each of those that died at the same moment at most
        # once, and then comes to `again`.
        "  retries 100",
        f"  retry-on {RETRIED} {elsewhere.GONE}" if config.peers else f"  retry-on {RETRIED}",
        # Not `always`: if the container ended on a reused connection, HAProxy would close the visitor's
        # connection without an answer instead of answering 502.
        "  http-reuse safe",
        f"  timeout connect {elsewhere.CONNECT if config.peers else '5s'}",
        "  timeout http-request 60s",
        "  timeout http-keep-alive 30s",
        # The function's `timeout` limits each request: see TIMEOUT_RULES.
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


def _log(config: Config, kind: str, **words: str) -> list[str]:
    """Return the lines that write each request that has ended to the ring (contract/recorded.py)."""
    if config.queries:
        words["target"] = "%HPO%HQ"
    if config.addresses:
        words["client"] = "%[src]"
    if config.traced is not None and kind != AGAIN:
        words["trace"] = "%[var(txn.trace)]"
    # HAProxy writes blanks and controls as `#20`.
    return [
        f"  log ring@requests len {LINE_BYTES} format raw local0",
        f'  log-format "{kind} {" ".join({**WORDS, **words}.values())}"',
    ]


def _frontend(config: Config) -> list[str]:
    return [
        "frontend web",
        # Find visitors that vanished: by keep-alive probes if idle, else by data that is not acknowledged.
        # The first one has a number, by which rules know it: that of a port can be another one outside.
        *(
            f"  bind fd@{descriptor} tcp-ut {VANISHED_S}s{'' if index else f' id {secure.PLAIN}'}"
            for index, descriptor in enumerate(config.listeners)
        ),
        # Containers ask for URLs at the second one. With TLS both share a line, because each line keeps 13 KiB for
        # each certificate.
        *(
            [f"  bind fd@{config.urls} maxconn {config.max_connections // CALLS_SHARE}"]
            if config.secure is None
            else [f"  bind fd@{config.secure},fd@{config.urls} tcp-ut {VANISHED_S}s {secure.BIND}"]
        ),
        *nodes.entrances(config.visitors),
        f"  maxconn {config.max_connections}",
        *([] if config.secure is None else secure.patience()),
        "  option clitcpka",
        "  clitcpka-idle 60s",
        "  clitcpka-intvl 15s",
        "  clitcpka-cnt 4",
        *rules.connections(
            per_source=config.per_source,
            trusted_proxies=config.trusted_proxies,
            containers=0 if config.secure is None else config.max_connections // CALLS_SHARE,
            has_entered=bool(config.visitors),
        ),
        *_log(config, "visit"),
        UNIQUE,
        *(rules.gone() if config.peers else []),
        *rules.responses(),
        *(secure.lasting() if config.lasting and config.secure is not None else []),
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
            tls=None if config.secure is None else config.https_port,
            preflights=config.preflights,
            traced=config.traced,
            has_entered=bool(config.visitors),
        ),
    ]


def _calls(config: Config) -> list[str]:
    """The frontends for containers. They have connections of their own, so they take none of the visitors'."""
    most = config.max_connections // CALLS_SHARE
    here = ["frontend calls", f"  bind fd@{config.calls}", f"  maxconn {most}"]
    if config.nodes is None:
        return _called(config, here, ())
    return [
        *_called(config, here, inside.OF_HERE),
        *_called(config, nodes.frontend(most, config.nodes_calls), nodes.identified()),
    ]


def _called(config: Config, frontend: Sequence[str], who: Sequence[str]) -> list[str]:
    return [
        *frontend,
        *_log(config, "call"),
        UNIQUE,
        *(rules.gone() if config.peers else []),
        *inside.responses(),
        "",
        *inside.rules(config.traced, who),
        "",
    ]


def _again(config: Config) -> list[str]:
    """The re-entry frontend. Only the newest process listens here, so all processes send requests to it."""
    return [
        f"frontend {AGAIN}-in",
        f"  bind unix@{config.again} accept-proxy mode 600",
        *_log(config, AGAIN, id="%[var(txn.id)]"),
        *PAGES,
        *(rules.gone() if config.peers else []),
        *rules.again(
            trusted=bool(config.trusted_proxies),
            domain=config.domain,
            joined=bool(config.peers),
        ),
    ]


def _backends(config: Config) -> list[str]:
    lines = [
        f"backend {AGAIN}",
        f"  server {AGAIN} unix@{config.again} send-proxy-v2",
        "backend metrics",
        # Who reaches the port of visitors may be code of any container, and who reaches that socket is the server's user.
        f"  http-request set-header {BY_PORT} 1",
        f"  server control unix@{config.api}",
        *inside.backend(config.inside),
        *(remote.backend(config.remote) if config.secure is not None else []),
    ]
    for prefix, count in config.backends.items():
        for number in range(count):
            name = backend_name(prefix, number)
            unshared = prefix == UNSHARED
            again = (
                f"  server {AGAIN} unix@{config.again} send-proxy-v2 backup maxconn {AGAIN_SLOTS}"
            )
            lines += [
                f"backend {name}",
                "  balance leastconn",
                *TIMEOUT_RULES,
                *(UNSHARED_RULES if unshared else ()),
                # No session may stick to the re-entry server, or each re-entry would be sent back there for ever.
                f"{again} non-stick" if unshared else again,
            ]
            lines += [
                " ".join(("  server", server.name, *server_words(server)))
                for server in config.servers.get(name, ())
            ]
    return lines


def _nodes(config: Config) -> list[str]:
    """The port for containers of other machines, after everything else."""
    if config.nodes is None:
        return []
    return nodes.port(
        listener=config.nodes,
        calls=config.nodes_calls,
        urls=config.urls_socket,
        nodes=config.peers,
        most=config.max_connections // CALLS_SHARE,
        visitors=config.visitors,
        most_visitors=config.max_connections,
    )
