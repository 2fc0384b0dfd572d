"""The port by which containers of other machines call functions and reach URLs, as lines of haproxy.cfg.

The HAProxy of each machine connects here by mTLS for its containers (`arriving`). The subject of its certificate is the
node's id, which has to be in the map `members`: the id of a node that was removed, or that joined again, is not. HAProxy 2.8 reads
nothing else of a client's certificate.

The name in the handshake says where to: `calls.…` leads to a frontend with the rules of the socket `calls`, which gets
the id in a PROXY header and looks it up for each request; `urls.…` leads to the socket `urls`, so such a request is a stranger's,
as that of a container of this machine is.
"""

from collections.abc import Collection

from homeport.ingress import elsewhere, inside, rules

TO_CALLS, TO_URLS = "nodes-calls", "nodes-urls"  # the backends, with one server for each node
NODE_SHARE = 2  # one node may have one connection for this many of all nodes
TABLE = "nodes-connections"


def frontend(most: int, bind: str) -> list[str]:
    """Return the frontend for calls, without its log. `bind` is its socket; `most` is for the connections of all nodes."""
    return [
        "frontend calls-of-nodes",
        f"  bind unix@{bind} accept-proxy mode 600",
        f"  maxconn {most}",
    ]


def identified() -> list[str]:
    """Return the rules that say to the control plane which node asks, and refuse a request of none."""
    return [
        "  http-request set-var(txn.node) fc_pp_unique_id,map_str(members.map)",
        *rules.answer(403, "this machine is no node any more", "!{ var(txn.node) -m found }"),
        f"  http-request set-header {inside.NODE} %[var(txn.node)]",
    ]


def port(*, listener: int, calls: str, urls: str, nodes: Collection[str], most: int) -> list[str]:
    """Return the sections of the port; they come last, because they have defaults of their own.

    `listener` is its descriptor; `calls` and `urls` are the paths of the sockets that it leads to.
    """
    certificates = f"ssl crt {elsewhere.PAIR} ca-file {elsewhere.LINK}/ca.pem verify required"
    return [
        # As soon as a node is connected, its requests alone limit how long it stays.
        *elsewhere.defaults(),
        "",
        f"backend {TABLE}",
        "  stick-table type string len 40 size 10k expire 1m store conn_cur",
        "frontend nodes",
        f"  bind fd@{listener} tcp-ut 25s {certificates} ssl-min-ver TLSv1.3 no-tls-tickets",
        f"  maxconn {most}",
        "  option clitcpka",
        "  clitcpka-idle 10s",
        "  clitcpka-intvl 5s",
        "  clitcpka-cnt 3",
        "  tcp-request session set-var(sess.node) ssl_c_s_dn(cn),map_str(members.map)",
        "  tcp-request session reject unless { var(sess.node) -m found }",
        f"  tcp-request session track-sc0 var(sess.node) table {TABLE}",
        f"  tcp-request session reject if {{ sc0_conn_cur({TABLE}) gt {most // NODE_SHARE} }}",
        "  unique-id-format %[ssl_c_s_dn(cn)]",
        f"  use_backend {TO_URLS} if {{ ssl_fc_sni -m beg urls. }}",
        f"  default_backend {TO_CALLS}",
        # A server for each node, so that the connections of a node can be ended.
        *_backend(TO_CALLS, f"unix@{calls} send-proxy-v2 proxy-v2-options unique-id", nodes),
        *_backend(TO_URLS, f"unix@{urls}", nodes),
    ]


def _backend(name: str, where: str, nodes: Collection[str]) -> list[str]:
    return [
        f"backend {name}",
        "  use-server %[var(sess.node)] if TRUE",
        *(f"  server {node} {where}" for node in nodes),
    ]
