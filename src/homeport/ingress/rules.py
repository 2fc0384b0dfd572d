"""The rules for each request and response, as lines of haproxy.cfg.

The order of the checks is that of behaviour spec 2.7: host, credentials, rate, size, pool. Each condition
costs 0.1 us, so `unusual` looks once whether a request needs the rules that few requests need.
"""

from collections.abc import Sequence

from homeport.contract.sizes import MAX_BODY_BYTES
from homeport.ingress import elsewhere, guards, remote, secure, traces, unusual

BURST_S = 5
QUIET = "quiet.map"  # backends whose next request park.lua reports to the control plane
HOPS = 100  # re-entries without a wait for a container
HOPS_JOINED = 600  # each waits for 50 ms
AGAIN = "again"  # the server in every backend that sends requests to the re-entry frontend
# In effect no limit. It must be one: `set maxconn` makes a server with a limit take its backend's queue.
AGAIN_SLOTS = "1000000"
# A body up to this size fits HAProxy's buffer: wait for it before the request takes a slot.
SMALL_BODY_BYTES = 16 * 1024
BODY_S = 10
MAX_PROXIES = 4  # trusted proxies in a row
TEXTS = {
    400: "the request cannot be read",
    408: "the request did not arrive in time",
    500: "the ingress failed",
    502: "the container ended before it answered",
    503: "no container takes the request now",
    504: "the container did not answer in time",
}
# Fields for this hop alone, fields that only homeport may write, and fields that are for homeport alone.
GONE = (
    "keep-alive",
    "proxy-connection",
    "te",
    "modal-key",
    "modal-secret",
    "x-real-ip",
    "forwarded",
    "x-homeport-method",
    "x-homeport-hops",
    "x-homeport-call",  # no visitor reaches a function's calls
)


def web(
    *,
    requests_per_s: int,
    per_source: int,
    trusted_proxies: Sequence[str],
    own_hosts: Sequence[str],
    domain: str,
    tls: int | None = None,
    preflights: bool = False,
    traced: float | None = None,
    has_entered: bool = False,
) -> list[str]:
    """Return the rules for a visitor's request; `tls` is the port of HTTPS, None without TLS.

    `traced` is as in `Config`. `has_entered`: visitors come in at other machines too.
    """
    return [
        *unusual.rules(
            trusted_proxies=trusted_proxies,
            own_hosts=own_hosts,
            domain=domain,
            preflights=preflights,
            has_entered=has_entered,
        ),
        *(
            []
            if tls is None
            else secure.rules(tls, trusted=bool(trusted_proxies), has_entered=has_entered)
        ),
        # Before a request can be refused, so that it is seen.
        *([] if traced is None else traces.rules(traced)),
        *_protocol(),
        *_who(trusted_proxies),
        *([] if tls is None else remote.rules(domain)),
        "  http-request allow if metrics",
        "  http-request lua.unknown unless known",
        *_limits(requests_per_s, per_source),
        *body(),
        "",
        *_seen_by_the_app(trusted=bool(trusted_proxies), tls=tls is not None),
        *(guards.of_preflights() if preflights else []),
        *to_pool(),
        "  use_backend metrics if metrics",
        *([] if tls is None else [f"  use_backend {remote.BACKEND} if api"]),
    ]


def body() -> list[str]:
    """Refuse a body that is too large, and wait for a small one before the request takes a slot."""
    return [
        *answer(
            413,
            "the body is larger than 4 GiB",
            f"{{ req.hdr(content-length),sub({MAX_BODY_BYTES}) gt 0 }}",
        ),
        (
            f"  http-request wait-for-body time {BODY_S}s if {{ req.hdr_val(content-length) gt 0 }} "
            f"{{ req.hdr_val(content-length) le {SMALL_BODY_BYTES} }}"
        ),
    ]


def connections(
    *,
    per_source: int,
    trusted_proxies: Sequence[str],
    containers: int = 0,
    has_entered: bool = False,
) -> list[str]:
    """Return the limit of connections from one address; idle ones count too.

    `containers`: how many there may be from all containers, which have no address; 0: their socket has a limit itself.
    `has_entered`: visitors come in at other machines too.
    """
    lines, but_entered = list[str](), ""
    if has_entered:
        from homeport.ingress import entered

        lines, but_entered = [entered.ACL], " !entered"
    if containers:
        lines += [
            f"  tcp-request connection track-sc2 int(1) table containers if !{{ src -m found }}{but_entered}",
            f"  tcp-request connection reject if {{ sc2_conn_cur(containers) gt {containers} }}",
        ]
    others = f"{{ src {' '.join(trusted_proxies)} }}" if trusted_proxies else ""
    if per_source:
        of_others = f" unless {others}" if others else ""
        lines += [
            f"  tcp-request connection track-sc2 src,ipmask(32,64) table connections{of_others}",
            f"  tcp-request connection reject if {{ sc2_conn_cur(connections) gt {2 * per_source} }}",
        ]
    if has_entered:
        lines += entered.connections(per_source, others)
    return lines


def again(*, trusted: bool, domain: str, joined: bool = False) -> list[str]:
    """Return the rules of the re-entry frontend: if a backend has no container, requests come here, and park.

    `joined`: there are other machines. If all containers of a pool are on one that does not answer, its requests come again
    until the control plane has given that machine up.
    """
    hops = HOPS_JOINED if joined else HOPS
    return [
        "  http-request set-var(txn.came_back) bool(true)",
        *_html(),
        "  http-request set-var(txn.id) req.hdr(x-request-id)",
        "  http-request lua.pause",
        # `add(1)` on a missing header gives nothing, so set it to 0 first.
        "  http-request set-header X-Homeport-Hops 0 unless { req.hdr(x-homeport-hops) -m found }",
        "  http-request set-header X-Homeport-Hops %[req.hdr(x-homeport-hops),add(1)]",
        *answer(503, TEXTS[503], f"{{ req.hdr(x-homeport-hops) gt {hops} }}"),
        *called(),
        *unusual.endpoint("http-request", domain, came_back=trusted, unless_called=True),
        "  http-request lua.unknown unless { var(txn.endpoint) -m found }",
        # The request may have been led to another version (guards.py), and goes to the endpoint's own pool now.
        "  http-request del-header X-Homeport-Method",
        *method(),
        *to_pool(),
    ]


def responses() -> list[str]:
    """Return the rules for a container's response."""
    return [
        (
            "  http-response lua.hop_by_hop_response if "
            "{ res.hdr_names -m reg (^|,)(connection|keep-alive|proxy-connection|upgrade)(,|$) }"
        ),
        # An app's own 425, which a container sends as another status (runner/servers/answer.py).
        (
            '  http-response set-status 425 reason "Too Early" '
            "if { status 499 } { res.hdr(x-homeport-status) -m str 425 }"
        ),
        "  http-response del-header x-homeport-status if { status 425 }",
    ]


def gone() -> list[str]:
    """Return the rule for a request that came to another machine after its container had ended, and that is too large to be sent again."""
    page = f"%[lua.page(503,{TEXTS[503]})]\\n"
    return [
        (
            '  http-response return status 503 content-type "text/plain; charset=utf-8" '
            f'lf-string "{page}" hdr Retry-After 1 '
            f"if {{ status {elsewhere.GONE} }} {{ res.hdr({elsewhere.BY_GONE}) -m found }}"
        )
    ]


def answer(status: int, text: str, condition: str) -> list[str]:
    """Return the rule that answers at once if the condition holds; park.lua writes the body as text or HTML."""
    retry = " hdr Retry-After 1" if status in (429, 503) else ""
    page = f"%[lua.page({status},{text})]\\n"
    reply = f'status {status} content-type "text/plain; charset=utf-8" lf-string "{page}"{retry}'
    return [f"  http-request return {reply} if {condition}"]


def _protocol() -> list[str]:
    """Refuse what `unusual` has found, and remove the fields that are for this hop alone (RFC 9110, 7.6.1)."""
    return [
        "  # what is malformed HAProxy refuses itself",
        *_html(),
        "  http-request lua.refuse if { var(txn.refused) -m found }",
        *guards.counted(),
        # The target is a whole URL. HAProxy has compared it with Host; apps expect a path.
        "  http-request set-uri %[pathq] if unusual http1 from_root !{ url_beg / }",
        "  http-request del-header Expect if unusual { req.ver 1.0 }",
        "  # what was meant for this hop alone",
        "  http-request del-header Upgrade if unusual upgrading !to_websocket",
        # HAProxy itself has taken `keep-alive` and `close` out of it.
        "  http-request lua.hop_by_hop if { req.hdr(connection) -m found }",
        f"  http-request del-header ^({'|'.join(GONE)})$ -m reg if unusual",
        "  http-request return status 204 if unusual limited METH_OPTIONS no_further",
        (
            "  http-request set-header Max-Forwards %[req.hdr_val(max-forwards),sub(1)] "
            "if unusual limited METH_OPTIONS or unusual limited METH_TRACE"
        ),
        "",
    ]


def _html() -> list[str]:
    return [
        "  http-request set-var(txn.html) bool(true) if { req.fhdr(accept,1) -m sub text/html }"
    ]


def _who(trusted: Sequence[str]) -> list[str]:
    """Find the visitor's address behind trusted proxies."""
    if not trusted:
        return []
    lines = ["  # from where"]
    # The client is the rightmost address that is not a trusted proxy's. An address that cannot be read
    # ends the search, because the client could have written everything left of it.
    hop_before = ""
    for place in range(1, MAX_PROXIES + 1):
        lines += [
            (
                f"  http-request set-var(txn.hop{place}) req.hdr_ip(x-forwarded-for,-{place}) "
                f"if trusted of_proxy{hop_before}"
            ),
            f"  http-request set-src var(txn.hop{place}) if {{ var(txn.hop{place}) -m found }}",
        ]
        hop_before = f" {{ var(txn.hop{place}) -m found }}"
    return lines


def called() -> list[str]:
    """Choose the endpoint of a call by X-Homeport-Call, which the frontend for visitors removes.

    Only the id of an endpoint for calls is one: a URL's may need a proxy token.
    """
    return [
        # The variable is checked and used: a condition on the field would be true if any one of several fields fits.
        "  http-request set-var(txn.asked_for) req.fhdr(x-homeport-call)",
        "  acl call var(txn.asked_for) -m reg ^call-[0-9a-f]{32}$",
        "  http-request set-var(txn.called) bool(true) if call",
        "  http-request set-var(txn.endpoint) var(txn.asked_for) if call",
    ]


def _limits(requests_per_s: int, per_source: int) -> list[str]:
    lines = []
    if requests_per_s:
        lines += [
            "  # how often, over all endpoints; what is refused does not count",
            "  http-request track-sc0 int(1) table limits",
            *answer(
                429,
                "too many requests",
                f"{{ sc0_gpc0_rate(limits) ge {requests_per_s * BURST_S} }}",
            ),
            "  http-request sc-inc-gpc0(0)",
        ]
    if per_source:
        lines += [
            "  # how many at once from one address, or from one network of IPv6",
            "  http-request track-sc1 src,ipmask(32,64) table sources",
            *answer(
                429,
                "too many requests at once from one address",
                f"{{ sc1_conn_cur(sources) gt {per_source} }}",
            ),
        ]
    return lines


def tables(per_source: int, *, tls: bool) -> list[str]:
    """Return the tables in which `_limits` and `connections` count."""
    lines = [
        "backend limits",
        f"  stick-table type integer size 1 expire 1m store gpc0,gpc0_rate({BURST_S}s)",
    ]
    if tls:
        lines += [
            "backend containers",
            "  stick-table type integer size 1 expire 1m store conn_cur",
        ]
    if per_source:
        lines += [
            "backend sources",
            "  stick-table type ipv6 size 100k expire 1m store conn_cur",
            "backend connections",
            "  stick-table type ipv6 size 100k expire 1m store conn_cur",
        ]
    return [*lines, *guards.tables(), ""]


def _seen_by_the_app(*, trusted: bool, tls: bool) -> list[str]:
    scheme = "ssl_fc,iif(https,http)" if tls else "str(http)"
    return [
        "  # what the app sees; what a visitor says of it is replaced",
        "  http-request set-header X-Request-Id %[unique-id]",
        "  http-request set-header X-Forwarded-For %[src]",
        *(_of_a_proxy(scheme) if trusted else _of_a_visitor(scheme)),
        # A container's request by the Unix socket has no address, and no port.
        "  acl addressed src -m found",
        "  http-request set-header X-Forwarded-For 127.0.0.1 if !addressed",
        "  http-request set-header X-Forwarded-Port %[req.hdr(host),port_only] if !addressed",
        "  http-request del-header authorization if protected bearer",
        *method(),
        "",
    ]


def method() -> list[str]:
    """Send a class with several methods the name of the method that the request is for."""
    return [
        *_set("method", "var(txn.endpoint),map_str(methods.map)"),
        "  acl several var(txn.method) -m found",
        "  http-request set-header X-Homeport-Method %[var(txn.method)] if several",
    ]


def _of_a_visitor(scheme: str) -> list[str]:
    scheme_rule = f"%[{scheme}]" if "ssl" in scheme else "http"
    return [
        f"  http-request set-header X-Forwarded-Proto {scheme_rule}",
        "  http-request set-header X-Forwarded-Port %[dst_port]",
        "  http-request del-header X-Forwarded-Host if unusual",
    ]


def _of_a_proxy(scheme: str) -> list[str]:
    """Take scheme, host and port from a trusted proxy's fields. Its Host has chosen the endpoint already."""
    return [
        "  acl by_tls req.hdr(x-forwarded-proto) -i https",
        f"  http-request set-var(txn.scheme) {scheme}",
        *(
            [
                "  acl by_plain req.hdr(x-forwarded-proto) -i http",
                "  http-request set-var(txn.scheme) str(http) if trusted by_plain",
            ]
            if "ssl" in scheme
            else []
        ),
        "  http-request set-var(txn.scheme) str(https) if trusted by_tls",
        "  http-request set-header X-Forwarded-Proto %[var(txn.scheme)]",
        "  acl https var(txn.scheme) -m str https",
        "  acl a_port req.hdr(x-forwarded-port) -m reg ^[0-9]{1,5}$",
        "  http-request set-header X-Forwarded-Port %[dst_port] if !trusted or !https !a_port",
        "  http-request set-header X-Forwarded-Port 443 if trusted https !a_port",
        "  http-request del-header X-Homeport-Host",
        f"  acl a_host req.fhdr(x-forwarded-host) -m reg {unusual.HOST}",
        "  http-request set-header X-Homeport-Host %[var(txn.host)] if trusted a_host",
        "  http-request set-header Host %[req.fhdr(x-forwarded-host)] if trusted a_host",
        "  http-request del-header X-Forwarded-Host unless trusted a_host",
    ]


def to_pool() -> list[str]:
    """Return the rules that send a request to its endpoint's pool, or park it."""
    return [
        "  # which pool, and is a container there",
        *_set("parameters", "var(txn.endpoint),map_str(parameters.map)"),
        *_set("pool", "var(txn.endpoint),map_str(pools.map)"),
        "  http-request lua.parameters if { var(txn.parameters) -m found }",
        *_set("backend", "var(txn.pool),map_str(backends.map)"),
        "  acl usable var(txn.backend) -m found",
        f"  http-request lua.awake if usable {{ var(txn.backend),map_str({QUIET}) -m found }}",
        "  http-request lua.park unless usable",
        *_set("timeout", "var(txn.endpoint),map_str_int(timeouts.map)"),
        "  use_backend %[var(txn.backend)] if usable",
        f"  default_backend {AGAIN}",
    ]


def _set(name: str, expression: str) -> list[str]:
    return [f"  http-request set-var(txn.{name}) {expression}"]
