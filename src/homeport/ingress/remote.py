"""The rules for requests to the server's API over HTTPS, as lines of haproxy.cfg.

Paths below `/v1/` at the domain itself go to a socket of the control plane that wants a token. No app can take them, whatever
host it has: it would get the tokens. Over plain HTTP there is no such rule.
"""

from homeport.ingress import secure

BACKEND = "api"
TABLE = "wrong_tokens"
#: Refusals of the API in COUNTED_S after which an address does not reach the control plane; it has refused the token long before.
MOST = 200
COUNTED_S = 10
_REFUSAL = (
    '{"error":{"kind":"TooMany","message":"too many wrong tokens came from this address",'
    '"where":"","hint":"","traceback":""}}'
)


def rules(domain: str) -> list[str]:
    """Return the rules of the frontend for visitors."""
    return [
        "  # the API of the server",
        "  acl to_api path_beg /v1/",
        f"  acl at_domain var(txn.host) -m str {domain}",
        f"  http-request set-var(txn.api) bool(true) if {secure.OVER_TLS} to_api at_domain",
        "  acl api var(txn.api) -m found",
        f"  http-request track-sc0 src,ipmask(32,64) table {TABLE} if api",
        (
            f"  http-request return status 429 content-type application/json string '{_REFUSAL}' "
            f"hdr Retry-After {COUNTED_S} if api {{ sc0_gpc0_rate({TABLE}) gt {MOST} }}"
        ),
        # The control plane trusts this field, because it comes from this backend's socket alone.
        "  http-request set-header X-Homeport-Source %[src] if api",
        "  http-request allow if api",
    ]


def backend(socket: str) -> list[str]:
    """Return the backend for the control plane."""
    return [
        f"backend {TABLE}",
        f"  stick-table type ipv6 size 100k expire 1m store gpc0,gpc0_rate({COUNTED_S}s)",
        f"backend {BACKEND}",
        "  retries 0",  # without a server the caller gets 503 at once
        # The guard's own refusals: other answers with 429 go to callers with a right token.
        "  http-response sc-inc-gpc0(0) if { status 401 429 } { res.hdr(x-homeport-refused) -m found }",
        "  http-response del-header x-homeport-refused",
        f"  server control unix@{socket}",
    ]
