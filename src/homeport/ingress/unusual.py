"""Which requests need more than a look: the rules that run before all others, as lines of haproxy.cfg.

HAProxy cannot jump over rules, but `tcp-request content accept` ends the list of those rules alone. So they
look once at everything that an ordinary request lacks, and end for such a request. For others they set:

    txn.unusual     the rules for fields that few requests have must run
    txn.refused     status and text of the answer, if the request is refused
    txn.proxied     a proxy sent it, or another machine
    txn.ours, txn.metrics    it is for none of the endpoints: see `_own`

No rule here changes the request; `rules` does that.
"""

from collections.abc import Sequence

from homeport.ingress import guards
from homeport.ingress.guards import SET as _SET
from homeport.ingress.guards import refused as _refused

MAX_HEAD_BYTES = 32 * 1024
# A host as in RFC 9110, 7.2: a name or an address, with or without a port.
HOST = r"^([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"
# Fields with a meaning for a rule here or in `rules`. HAProxy writes names in lower case.
NAMES = (
    "expect",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "te",
    "max-forwards",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "x-homeport-[^,]*",
    "modal-[^,]*",
    "host(,[^,]*)*,host",  # two of them
)


def rules(
    *,
    trusted_proxies: Sequence[str],
    own_hosts: Sequence[str],
    domain: str,
    preflights: bool,
    has_entered: bool = False,
) -> list[str]:
    """Return the rules for a visitor's request; with `preflights` those of CORS need no token.

    `has_entered`: visitors come in at other machines too.
    """
    return [
        *endpoint("tcp-request content", domain),
        _SET.format("guard", "var(txn.endpoint),map_str(guards.map)"),
        *_trusted(trusted_proxies),
        # A node may say of a visitor that it is on this machine.
        *([_SET.format("proxied", "bool(true) if entered")] if has_entered else []),
        "  # an ordinary request: nothing below matters to it",
        "  acl known var(txn.endpoint) -m found",
        "  acl guarded var(txn.guard) -m found",
        "  acl http1 fc_http_major 1",
        "  acl from_root path_beg /",
        "  acl newest req.ver 1.1",
        "  acl newest fc_http_major 2",
        # In HTTP/2 the target is always a whole URL.
        "  acl origin_form url_beg /",
        "  acl origin_form fc_http_major 2",
        f"  acl long_url url,length gt {MAX_HEAD_BYTES}",
        f"  acl large req.hdrs,length gt {MAX_HEAD_BYTES}",
        f"  acl plain_host req.fhdr(host) -m reg {HOST}",
        f"  acl unusual_name req.hdr_names -m reg (^|,)({'|'.join(NAMES)})(,|$)",
        (
            "  tcp-request content accept if known !guarded newest from_root origin_form "
            "!METH_CONNECT !long_url !large plain_host !unusual_name"
        ),
        _SET.format("unusual", "bool(true)"),
        "  acl unusual var(txn.unusual) -m found",
        "",
        *_protocol(),
        *_own(own_hosts, domain),
        *_refused(
            400, "prohibited modal header", "known { req.hdr_cnt(modal-function-call-id) gt 0 }"
        ),
        *guards.rules(preflights=preflights),
        "",
    ]


def endpoint(
    stage: str, domain: str, *, came_back: bool = False, unless_called: bool = False
) -> list[str]:
    """Return the rules that find the endpoint, unless it is known already and `unless_called`.

    No wildcard takes the domain itself, where the API answers.
    """
    unknown = " unless { var(txn.endpoint) -m found }"
    return [
        "  # which endpoint: a port of its own, a host, or a wildcard's host",
        f"  {stage} set-var(txn.endpoint) dst_port,map_str(ports.map){unknown if unless_called else ''}",
        f"  {stage} set-var(txn.host) req.hdr(host),host_only,lower",
        # On re-entry, Host may already be the app's (X-Forwarded-Host); the Host that chose the endpoint is
        # in X-Homeport-Host then. On the first entry a visitor could have written that field.
        *([f"  {stage} set-var(txn.host) req.hdr(x-homeport-host)"] if came_back else []),
        f"  {stage} set-var(txn.endpoint) var(txn.host),map_str(hosts.map){unknown}",
        (
            f"  {stage} set-var(txn.endpoint) "
            f"var(txn.host),regsub(^[^.]*,*),map_str(hosts.map){unknown} || {{ var(txn.host) -m str {domain} }}"
        ),
    ]


def _trusted(trusted: Sequence[str]) -> list[str]:
    if not trusted:
        return []
    return [
        f"  acl of_proxy src {' '.join(trusted)}",
        "  acl trusted var(txn.trusted) -m found",
        "  tcp-request content set-var(txn.trusted) bool(true) if of_proxy",
        "  tcp-request content set-var(txn.proxied) bool(true) if trusted",
    ]


def _protocol() -> list[str]:
    """Refuse requests that are not valid HTTP."""
    return [
        "  # is it HTTP (RFC 9110, 9112)",
        *_refused(505, "the version of HTTP is not known here", "http1 !{ req.ver 1.0 1.1 }"),
        *_refused(405, "there is no tunnel here", "METH_CONNECT"),
        # req.fhdr_cnt counts fields; req.hdr_cnt would count values between commas.
        *_refused(400, "two Host fields", "{ req.fhdr_cnt(host) gt 1 }"),
        "  acl host req.hdr(host) -m found",
        *_refused(400, "the Host field is missing", "!host !{ req.ver 1.0 }"),
        *_refused(400, "the Host field is not a host", "host !plain_host"),
        *_refused(400, "the target is not a path", "!from_root !METH_OPTIONS"),
        # A rule takes the host from a whole URL in HTTP/1; other targets count as they are.
        f"  acl long pathq,length gt {MAX_HEAD_BYTES}",
        *_refused(
            414,
            "the target is longer than 32 KiB",
            "long or !http1 long_url or !from_root long_url",
        ),
        *_refused(431, "the head of the request is larger than 32 KiB", "large"),
        "  acl upgrading req.hdr(upgrade) -m found",
        "  acl to_websocket req.hdr(upgrade) -i websocket",
        *_refused(501, "this protocol is not known here", "upgrading !http1 !to_websocket"),
        "  acl limited req.hdr(max-forwards) -m found",
        "  acl no_further req.hdr_val(max-forwards) eq 0",
        *_refused(405, "it may not go further", "limited METH_TRACE no_further"),
        "",
    ]


def _own(own_hosts: Sequence[str], domain: str) -> list[str]:
    """Answer `/metrics` and the list of endpoints to this machine alone, and only at our own hosts.

    A web page in a browser on this machine can point a name of its own to this address (DNS rebinding),
    but the browser sends that name as Host.
    """
    return [
        "  # from where, and is it for us",
        "  acl from_here src 127.0.0.0/8 ::1",
        *(
            f"  acl forwarded req.hdr({name}) -m found"
            for name in ("x-forwarded-for", "forwarded", "via")
        ),
        _SET.format("proxied", "bool(true) if forwarded"),
        "  acl proxied var(txn.proxied) -m found",
        f"  acl ours var(txn.host) -m str {' '.join(own_hosts)}",
        f"  acl ours var(txn.host) -m end .{domain}",
        _SET.format("ours", "bool(true) if !known ours"),
        _SET.format("metrics", "bool(true) if !known { path /metrics } from_here !proxied ours"),
        "  acl metrics var(txn.metrics) -m found",
    ]
