"""The rules for each request and response, as lines of haproxy.cfg.

The order of the checks is that of behaviour spec 2.7: host, credentials, rate, size, pool. Rules for
unusual requests have a cheap condition, because each rule costs 0.05 to 0.1 us.
"""

from collections.abc import Sequence

from homeport.contract.sizes import MAX_BODY_BYTES

MAX_HEAD_BYTES = 32 * 1024
BURST_S = 5
# While a request is parked, a deploy may replace its pool: look the pool up again, this many times.
ROUNDS = 3
HOPS = 100  # re-entries without a wait for a container
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
# A host as in RFC 9110, 7.2: a name or an address, with or without a port.
_HOST = r"^([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"


def web(
    *,
    requests_per_s: int,
    per_source: int,
    trusted_proxies: Sequence[str],
    own_hosts: Sequence[str],
    domain: str,
) -> list[str]:
    """Return the rules for a visitor's request."""
    return [
        *_protocol(),
        *_who(trusted_proxies),
        *_endpoint(),
        *_metrics(own_hosts, domain),
        "  http-request lua.unknown unless { var(txn.endpoint) -m found }",
        *answer(400, "prohibited modal header", "{ req.hdr_cnt(modal-function-call-id) gt 0 }"),
        "",
        *_credentials(),
        *_limits(requests_per_s, per_source),
        *body(),
        "",
        *_seen_by_the_app(bool(trusted_proxies)),
        *to_pool(),
        "  use_backend metrics if metrics",
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


def connections(*, per_source: int, trusted_proxies: Sequence[str]) -> list[str]:
    """Return the limit of connections from one address; idle ones count too."""
    if not per_source:
        return []
    of_others = f" unless {{ src {' '.join(trusted_proxies)} }}" if trusted_proxies else ""
    return [
        f"  tcp-request connection track-sc2 src,ipmask(32,64) table connections{of_others}",
        f"  tcp-request connection reject if {{ sc2_conn_cur(connections) gt {2 * per_source} }}",
    ]


def again(*, trusted: bool) -> list[str]:
    """Return the rules of the re-entry frontend: if a backend has no container, requests come here, and park."""
    return [
        "  http-request set-var(txn.came_back) bool(true)",
        *_html(),
        "  http-request set-var(txn.id) req.hdr(x-request-id)",
        "  http-request lua.pause",
        # `add(1)` on a missing header gives nothing, so set it to 0 first.
        "  http-request set-header X-Homeport-Hops 0 unless { req.hdr(x-homeport-hops) -m found }",
        "  http-request set-header X-Homeport-Hops %[req.hdr(x-homeport-hops),add(1)]",
        *answer(503, TEXTS[503], f"{{ req.hdr(x-homeport-hops) gt {HOPS} }}"),
        *called(),
        *_endpoint(came_back=trusted, unless="endpoint"),
        "  http-request lua.unknown unless { var(txn.endpoint) -m found }",
        *to_pool(),
    ]


def responses() -> list[str]:
    """Return the rules for a container's response."""
    return [
        (
            "  http-response lua.hop_by_hop_response if { res.hdr(connection) -m found } "
            "!{ status 101 }"
        ),
        "  http-response del-header Keep-Alive",
        "  http-response del-header Proxy-Connection",
        "  http-response del-header Upgrade unless { status 101 }",
    ]


def answer(status: int, text: str, condition: str) -> list[str]:
    """Return the rule that answers at once if the condition holds; park.lua writes the body as text or HTML."""
    retry = " hdr Retry-After 1" if status in (429, 503) else ""
    page = f"%[lua.page({status},{text})]\\n"
    reply = f'status {status} content-type "text/plain; charset=utf-8" lf-string "{page}"{retry}'
    return [f"  http-request return {reply} if {condition}"]


def _protocol() -> list[str]:
    """Refuse requests that are not valid HTTP, and remove the fields that are for this hop alone."""
    return [
        "  # is it HTTP (RFC 9110, 9112); what is malformed HAProxy refuses itself",
        *_html(),
        "  acl http1 fc_http_major 1",
        *answer(505, "the version of HTTP is not known here", "http1 !{ req.ver 1.0 1.1 }"),
        *answer(405, "there is no tunnel here", "METH_CONNECT"),
        # req.fhdr_cnt counts fields; req.hdr_cnt would count values between commas.
        *answer(400, "two Host fields", "{ req.fhdr_cnt(host) gt 1 }"),
        "  acl host req.hdr(host) -m found",
        f"  acl plain_host req.fhdr(host) -m reg {_HOST}",
        *answer(400, "the Host field is missing", "!host !{ req.ver 1.0 }"),
        *answer(400, "the Host field is not a host", "host !plain_host"),
        "  acl from_root path_beg /",
        *answer(400, "the target is not a path", "!from_root !METH_OPTIONS"),
        # The target is a whole URL. HAProxy has compared it with Host; apps expect a path.
        "  http-request set-uri %[pathq] if http1 from_root !{ url_beg / }",
        *answer(414, "the target is longer than 32 KiB", f"{{ url,length gt {MAX_HEAD_BYTES} }}"),
        *answer(
            431,
            "the head of the request is larger than 32 KiB",
            f"{{ req.hdrs,length gt {MAX_HEAD_BYTES} }}",
        ),
        "  http-request del-header Expect if { req.ver 1.0 }",
        "  # what was meant for this hop alone (RFC 9110, 7.6.1)",
        "  acl upgrading req.hdr(upgrade) -m found",
        "  acl to_websocket req.hdr(upgrade) -i websocket",
        *answer(501, "this protocol is not known here", "upgrading !http1 !to_websocket"),
        "  http-request del-header Upgrade if upgrading !to_websocket",
        "  http-request lua.hop_by_hop if { req.hdr(connection) -m found }",
        "  http-request del-header Keep-Alive",
        "  http-request del-header Proxy-Connection",
        "  http-request del-header TE",
        "  acl limited req.hdr(max-forwards) -m found",
        *answer(
            405, "it may not go further", "limited METH_TRACE { req.hdr_val(max-forwards) eq 0 }"
        ),
        (
            "  http-request return status 204 if limited METH_OPTIONS "
            "{ req.hdr_val(max-forwards) eq 0 }"
        ),
        (
            "  http-request set-header Max-Forwards %[req.hdr_val(max-forwards),sub(1)] "
            "if limited METH_OPTIONS or limited METH_TRACE"
        ),
        "",
    ]


def _html() -> list[str]:
    return ["  http-request set-var(txn.html) bool(true) if { req.hdr(accept) -m sub text/html }"]


def _who(trusted: Sequence[str]) -> list[str]:
    """Find out whether the visitor is on this machine, and its address behind trusted proxies."""
    lines = [
        "  # from where",
        "  acl from_here src 127.0.0.0/8 ::1",
        "  acl proxied var(txn.proxied) -m found",
        *(
            f"  http-request set-var(txn.proxied) bool(true) if {{ req.hdr({name}) -m found }}"
            for name in ("x-forwarded-for", "forwarded", "via")
        ),
    ]
    if not trusted:
        return lines
    lines += [
        f"  acl of_proxy src {' '.join(trusted)}",
        "  acl trusted var(txn.trusted) -m found",
        "  http-request set-var(txn.trusted) bool(true) if of_proxy",
        "  http-request set-var(txn.proxied) bool(true) if trusted",
    ]
    # The client is the rightmost address that is not a trusted proxy's. An address that cannot be read
    # ends the search, because the client could have written everything left of it.
    found = ""
    for place in range(1, MAX_PROXIES + 1):
        lines += [
            (
                f"  http-request set-var(txn.hop{place}) req.hdr_ip(x-forwarded-for,-{place}) "
                f"if trusted of_proxy{found}"
            ),
            f"  http-request set-src var(txn.hop{place}) if {{ var(txn.hop{place}) -m found }}",
        ]
        found = f" {{ var(txn.hop{place}) -m found }}"
    return lines


def called() -> list[str]:
    """Choose the endpoint of a call by X-Homeport-Call, which the frontend for visitors removes.

    Only the id of an endpoint for calls is one: a URL's may need a proxy token.
    """
    return [
        "  acl call req.fhdr(x-homeport-call) -m reg ^call-[0-9a-f]{32}$",
        "  http-request set-var(txn.called) bool(true) if call",
        "  http-request set-var(txn.endpoint) req.fhdr(x-homeport-call) if call",
    ]


def _endpoint(*, came_back: bool = False, unless: str = "") -> list[str]:
    return [
        "  # which endpoint: a port of its own, a host, or a wildcard's host",
        *_set("endpoint", "dst_port,map_str(ports.map)", unless=unless),
        *_set("host", "req.hdr(host),host_only,lower"),
        # On re-entry, Host may already be the app's (X-Forwarded-Host); the Host that chose the endpoint is
        # in X-Homeport-Host then. On the first entry a visitor could have written that field.
        *(_set("host", "req.hdr(x-homeport-host)") if came_back else ()),
        *_set("endpoint", "var(txn.host),map_str(hosts.map)", unless="endpoint"),
        *_set("endpoint", "var(txn.host),regsub(^[^.]*,*),map_str(hosts.map)", unless="endpoint"),
    ]


def _metrics(own_hosts: Sequence[str], domain: str) -> list[str]:
    """Answer `/metrics` and the list of endpoints to this machine alone, and only at our own hosts.

    A web page in a browser on this machine can point a name of its own to this address (DNS rebinding),
    but the browser sends that name as Host.
    """
    return [
        "  acl known var(txn.endpoint) -m found",
        f"  acl ours var(txn.host) -m str {' '.join(own_hosts)}",
        f"  acl ours var(txn.host) -m end .{domain}",
        "  http-request set-var(txn.ours) bool(true) if !known ours",
        "  acl metrics var(txn.metrics) -m found",
        (
            "  http-request set-var(txn.metrics) bool(true) if !known { path /metrics } from_here "
            "!proxied ours"
        ),
        "  http-request allow if metrics",
    ]


def _credentials() -> list[str]:
    return [
        "  # who asks",
        *_set("protected", "var(txn.endpoint),map_str(protected.map)"),
        "  acl protected var(txn.protected) -m found",
        "  acl bearer var(txn.bearer) -m found",
        "  acl pair var(txn.key) -m found",
        "  http-request set-var(txn.key) req.hdr(modal-key) if protected",
        "  http-request set-var(txn.secret) req.hdr(modal-secret) if protected",
        "  http-request set-var(txn.bearer) http_auth_bearer if protected !pair",
        "  http-request set-var(txn.key) var(txn.bearer),field(1,.) if protected bearer",
        "  http-request set-var(txn.secret) var(txn.bearer),field(2,.) if protected bearer",
        "  http-request set-var(txn.expected) var(txn.key),map_str(tokens.map) if protected",
        "  http-request set-var(txn.given) var(txn.secret),sha2(256),hex,lower if protected",
        *answer(401, "missing credentials for proxy authorization", "protected !pair"),
        *answer(
            401,
            "invalid credentials for proxy authorization",
            "protected !{ var(txn.given),secure_memcmp(txn.expected) -m bool }",
        ),
        "  http-request del-header modal-key",
        "  http-request del-header modal-secret",
        "  http-request del-header authorization if protected bearer",
        "",
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


def tables(per_source: int) -> list[str]:
    """Return the tables in which `_limits` and `connections` count."""
    lines = [
        "backend limits",
        f"  stick-table type integer size 1 expire 1m store gpc0,gpc0_rate({BURST_S}s)",
    ]
    if per_source:
        lines += [
            "backend sources",
            "  stick-table type ipv6 size 100k expire 1m store conn_cur",
            "backend connections",
            "  stick-table type ipv6 size 100k expire 1m store conn_cur",
        ]
    return [*lines, ""]


def _seen_by_the_app(trusted: bool) -> list[str]:
    return [
        "  # what the app sees; what a visitor says of it is replaced",
        "  http-request set-header X-Request-Id %[unique-id]",
        "  http-request set-header X-Forwarded-For %[src]",
        *(_of_a_proxy() if trusted else _of_a_visitor()),
        "  http-request del-header X-Real-IP",
        "  http-request del-header Forwarded",
        "  http-request del-header X-Homeport-Method",
        "  http-request del-header X-Homeport-Hops",
        "  http-request del-header X-Homeport-Call",  # no visitor reaches a function's calls
        *method(),
        "",
    ]


def method() -> list[str]:
    """Tell a class with several methods which one the request is for."""
    return [
        *_set("method", "var(txn.endpoint),map_str(methods.map)"),
        "  acl several var(txn.method) -m found",
        "  http-request set-header X-Homeport-Method %[var(txn.method)] if several",
    ]


def _of_a_visitor() -> list[str]:
    return [
        "  http-request set-header X-Forwarded-Proto http",
        "  http-request set-header X-Forwarded-Port %[dst_port]",
        "  http-request del-header X-Forwarded-Host",
    ]


def _of_a_proxy() -> list[str]:
    """Take scheme, host and port from a trusted proxy's fields. Its Host has chosen the endpoint already."""
    return [
        "  acl by_tls req.hdr(x-forwarded-proto) -i https",
        "  http-request set-var(txn.scheme) str(http)",
        "  http-request set-var(txn.scheme) str(https) if trusted by_tls",
        "  http-request set-header X-Forwarded-Proto %[var(txn.scheme)]",
        "  acl https var(txn.scheme) -m str https",
        "  acl a_port req.hdr(x-forwarded-port) -m reg ^[0-9]{1,5}$",
        "  http-request set-header X-Forwarded-Port %[dst_port] if !trusted or !https !a_port",
        "  http-request set-header X-Forwarded-Port 443 if trusted https !a_port",
        "  http-request del-header X-Homeport-Host",
        f"  acl a_host req.fhdr(x-forwarded-host) -m reg {_HOST}",
        "  http-request set-header X-Homeport-Host %[var(txn.host)] if trusted a_host",
        "  http-request set-header Host %[req.fhdr(x-forwarded-host)] if trusted a_host",
        "  http-request del-header X-Forwarded-Host unless trusted a_host",
    ]


def to_pool() -> list[str]:
    """Return the rules that lead to the endpoint's pool, or park the request."""
    lines = [
        "  # which pool, and is a container there",
        *_set("parameters", "var(txn.endpoint),map_str(parameters.map)"),
        "  acl usable var(txn.backend) -m found",
    ]
    backend = "var(txn.pool),map_str(backends.map)"
    for number in range(ROUNDS):
        again = " unless usable" if number else ""
        lines += [
            f"  http-request set-var(txn.pool) var(txn.endpoint),map_str(pools.map){again}",
            "  http-request lua.parameters if { var(txn.parameters) -m found }"
            + (" !usable" if number else ""),
            f"  http-request unset-var(txn.backend){again}",
            f"  http-request set-var(txn.backend) {backend}{again}",
            "  http-request lua.park unless usable",
        ]
    return [
        *lines,
        # Look the backend up once more after the last park.
        f"  http-request set-var(txn.backend) {backend} unless usable",
        *_set("timeout", "var(txn.endpoint),map_str_int(timeouts.map)"),
        "  use_backend %[var(txn.backend)] if usable",
        f"  default_backend {AGAIN}",
    ]


def _set(name: str, expression: str, *, unless: str = "") -> list[str]:
    condition = f" unless {{ var(txn.{unless}) -m found }}" if unless else ""
    return [f"  http-request set-var(txn.{name}) {expression}{condition}"]
