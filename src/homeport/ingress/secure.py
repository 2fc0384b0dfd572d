"""The rules for TLS, as lines of haproxy.cfg; without TLS there is none of them.

a challenge of an ACME server (RFC 8555, 8.3)     answered on the HTTP port, for every host
HTTP, and the host has a certificate              308 to HTTPS: the method and the body stay
HTTP, and it has none yet                         answered, so that a new host can be reached
HTTPS, and the certificate is not for Host        421 (RFC 9110, 15.5.20), so the client connects again
"""

LIST = "crt-list"  # the file with the list of certificates
OVER_TLS = "over_tls"  # the name of the condition
SESSIONS = 2000  # of clients that come back without a whole handshake
PLAIN = 80  # the number of the main HTTP socket in HAProxy's configuration, whatever its port is
ENTERED_PLAIN = 81  # and of the one for visitors who come in at other machines (`entered`)
CHALLENGES = "/.well-known/acme-challenge/"
# Without a certificate for the name in the handshake there is no connection: no visitor gets another host's.
BIND = f"ssl crt-list {LIST} strict-sni alpn h2,http/1.1"
YEAR_S = 365 * 24 * 3600
# Mozilla's intermediate list (guidelines 5.7) without the ciphers that need DH parameters.
_CIPHERS = (
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
)
_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")


def options() -> list[str]:
    """Return the lines of the section `global`."""
    return [
        # A ticket's key would be the same for the process's life, and read all recorded connections.
        "  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets prefer-client-ciphers",
        # Each takes 0.2 KiB, used or not; without tickets a client comes back by one of these.
        f"  tune.ssl.cachesize {SESSIONS}",
        f"  ssl-default-bind-ciphers {':'.join(_CIPHERS)}",
        f"  ssl-default-bind-ciphersuites {':'.join(_SUITES)}",
    ]


def patience() -> list[str]:
    """Return how long a client may be silent.

    HAProxy 2.8 has no other limit for a handshake. It also ends a stream of HTTP/2, or an upload, that is silent for so
    long; the wait for an answer is no silence.
    """
    return ["  timeout client 1h"]


def lasting() -> list[str]:
    """Return the rule by which browsers remember that a host has HTTPS; an app's own field stays."""
    return [
        "  acl lasts res.hdr(strict-transport-security) -m found",
        f"  http-after-response set-header Strict-Transport-Security max-age={YEAR_S} if {{ ssl_fc }} !lasts",
    ]


def rules(https_port: int, *, trusted: bool, has_entered: bool = False) -> list[str]:
    """Return the rules for a visitor's request. A trusted proxy answers for its own visitors' TLS."""
    port = "" if https_port == 443 else f":{https_port}"
    strangers = " !trusted" if trusted else ""
    # A visitor without credentials gets no 401 here, or would send them in plain.
    moves = f"!over_tls main_port !metrics {{ var(txn.by_host) -m found }}{strangers}"
    return [
        "  # TLS: challenges, a request for another host than the certificate's, HTTP",
        f"  acl {OVER_TLS} ssl_fc",
        f"  acl main_port so_id {PLAIN}{f' {ENTERED_PLAIN}' if has_entered else ''}",
        "  acl refused var(txn.refused) -m found",
        f"  acl a_challenge path_beg {CHALLENGES}",
        (
            "  http-request set-var(txn.challenge) path,field(4,/),map_str(challenges.map) "
            "if !over_tls main_port a_challenge"
        ),
        (
            '  http-request return status 200 content-type text/plain lf-string "%[var(txn.challenge)]" '
            "if { var(txn.challenge) -m found }"
        ),
        "  acl named ssl_fc_sni,lower,strcmp(txn.host) eq 0",
        *_covered("by_sni", "ssl_fc_sni,lower", "over_tls !named"),
        *_covered("by_host", "var(txn.host)", "over_tls !named or !over_tls main_port"),
        "  acl same_certificate var(txn.by_sni),strcmp(txn.by_host) eq 0",
        (
            '  http-request return status 421 content-type "text/plain; charset=utf-8" '
            'lf-string "homeport: this connection is not for this host\\n" '
            f"if over_tls !named !same_certificate{strangers}"
        ),
        (
            f"  http-request redirect code 308 location https://%[var(txn.host)]{port}%[pathq] "
            f"if {moves} !refused or {moves} {{ var(txn.refused) -m beg 401 }}"
        ),
        "",
    ]


def _covered(name: str, host: str, condition: str) -> list[str]:
    """Return the rules that find a host's certificate, by its name or by a wildcard."""
    return [
        f"  http-request set-var(txn.{name}) {host},map_str(covered.map) if {condition}",
        (
            f"  http-request set-var(txn.{name},ifnotexists) "
            f"{host},regsub(^[^.]*,*),map_str(covered.map) if {condition}"
        ),
    ]
