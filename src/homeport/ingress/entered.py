"""Visitors who come in at another machine, as lines of the ingress's haproxy.cfg. PURE. The other end is `entering`.

The port for nodes (`nodes`) has checked the node's certificate, and leads the connection on to one of two sockets of the
frontend for visitors: so every rule for visitors is one for these too. Each connection begins with a PROXY header of the
node, which says who the visitor is. A node may lie about that, so what only this machine may ask for is not
given to anybody who comes this way. A server without other machines does not import this.
"""

from collections.abc import Mapping

from homeport.ingress import secure

HTTP, HTTPS = "http", "https"  # the first label of the name in a node's handshake
#: The numbers of the two sockets in HAProxy's configuration.
PLAIN, OVER_TLS = secure.ENTERED_PLAIN, 82
ACL = f"  acl entered so_id {PLAIN} {OVER_TLS}"


def sockets(directory: str, *, tls: bool) -> dict[str, str]:
    """Return label -> path of the sockets, in this directory.

    >>> sockets("/run", tls=False)
    {'http': '/run/entered-http.sock'}
    """
    return {kind: f"{directory}/entered-{kind}.sock" for kind in (HTTP, HTTPS)[: 1 + tls]}


def binds(paths: Mapping[str, str]) -> list[str]:
    """Return the sockets of the frontend for visitors."""
    numbers = {HTTP: f"{PLAIN}", HTTPS: f"{OVER_TLS} {secure.BIND}"}
    return [
        f"  bind unix@{path} accept-proxy mode 600 id {numbers[kind]}"
        for kind, path in paths.items()
    ]


def connections(per_source: int, others: str) -> list[str]:
    """Return the limit of connections from one address, which is known once the PROXY header has been read.

    `others` is the condition for an address without a limit. A connection without an address would count as a container's.
    """
    lines = ["  tcp-request session reject if entered !{ src -m found }"]
    if per_source:
        but_others = f" !{others}" if others else ""
        lines += [
            f"  tcp-request session track-sc2 src,ipmask(32,64) table connections if entered{but_others}",
            f"  tcp-request session reject if entered {{ sc2_conn_cur(connections) gt {2 * per_source} }}",
        ]
    return lines
