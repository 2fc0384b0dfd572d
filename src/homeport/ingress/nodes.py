"""The port by which containers of other machines call functions and reach URLs, as lines of haproxy.cfg.

The HAProxy of each machine connects here by mTLS for its containers (`arriving`). The subject of its certificate is the
node's id, which has to be in the map `members`: the id of a node that was removed, or that joined again, is not. HAProxy 2.8 reads
nothing else of a client's certificate.

The name in the handshake says where to: `calls.…` leads to a frontend with the rules of the socket `calls`, which gets
the id in a PROXY header and looks it up for each request; `urls.…` leads to the socket `urls`, so such a request is a stranger's,
as that of a container of this machine is. `http.…` and `https.…` lead visitors who come in at that machine to the frontend for
visitors (`entered`). They are counted apart: calls have their own room.
"""

from collections.abc import Collection, Mapping, Sequence

from homeport.ingress import elsewhere, inside, rules

TO_CALLS, TO_URLS = "nodes-calls", "nodes-urls"  # the backends, with one server for each node
NODE_SHARE = 2  # one node may have one connection for this many of all nodes
VISITORS_SHARE = 0.75  # of all visitors at one node: more than one address may have
TO_VISITORS = {"http": "nodes-http", "https": "nodes-https"}  # by label, as in `entered`
TABLE, VISITORS, ALL_VISITORS = "nodes-connections", "nodes-visitors", "nodes-all-visitors"
IDLE_S = 60  # how long data may not be acknowledged: who reads slowly holds it up


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


def port(
    *,
    listener: int,
    calls: str,
    urls: str,
    nodes: Collection[str],
    most: int,
    visitors: Mapping[str, str],
    most_visitors: int,
) -> list[str]:
    """Return the sections of the port; they come last, because they have defaults of their own.

    `listener` is its descriptor; `calls`, `urls` and those of `visitors` are the paths of the sockets that it leads to.
    """
    certificates = f"ssl crt {elsewhere.PAIR} ca-file {elsewhere.LINK}/ca.pem verify required"
    return [
        # As soon as a node is connected, its requests alone limit how long it stays.
        *elsewhere.defaults(),
        "",
        *_table(TABLE, "string len 40 size 10k"),
        *(_table(VISITORS, "string len 40 size 10k") if visitors else []),
        *(_table(ALL_VISITORS, "integer size 1") if visitors else []),
        "frontend nodes",
        f"  bind fd@{listener} tcp-ut {IDLE_S}s {certificates} ssl-min-ver TLSv1.3 no-tls-tickets",
        f"  maxconn {most + (most_visitors if visitors else 0)}",
        "  option clitcpka",
        "  clitcpka-idle 10s",
        "  clitcpka-intvl 5s",
        "  clitcpka-cnt 3",
        "  tcp-request session set-var(sess.node) ssl_c_s_dn(cn),map_str(members.map)",
        "  tcp-request session reject unless { var(sess.node) -m found }",
        *(_counted(most, most_visitors) if visitors else _limited(TABLE, most // NODE_SHARE)),
        "  unique-id-format %[ssl_c_s_dn(cn)]",
        f"  use_backend {TO_URLS} if {{ ssl_fc_sni -m beg urls. }}",
        *(
            f"  use_backend {TO_VISITORS[label]} if {{ ssl_fc_sni -m beg {label}. }}"
            for label in visitors
        ),
        f"  default_backend {TO_CALLS}",
        # A server for each node, so that the connections of a node can be ended.
        *_backend(TO_CALLS, f"unix@{calls} send-proxy-v2 proxy-v2-options unique-id", nodes),
        *_backend(TO_URLS, f"unix@{urls}", nodes),
        # The PROXY header is the node's.
        *(
            line
            for label, path in visitors.items()
            for line in _backend(TO_VISITORS[label], f"unix@{path}", nodes)
        ),
    ]


def entrances(sockets: Mapping[str, str]) -> list[str]:
    """Return the sockets of the frontend for visitors to which the port leads those who come in at a node."""
    if not sockets:
        return []
    from homeport.ingress import entered

    return entered.binds(sockets)


def _table(name: str, kind: str) -> list[str]:
    return [f"backend {name}", f"  stick-table type {kind} expire 1m store conn_cur"]


def _limited(table: str, most: int, *, only: str = "", key: str = "var(sess.node)") -> list[str]:
    counter = "sc1" if table == ALL_VISITORS else "sc0"
    return [
        f"  tcp-request session track-{counter} {key} table {table}{only}",
        f"  tcp-request session reject if {{ {counter}_conn_cur({table}) gt {most} }}",
    ]


def _counted(most: int, most_visitors: int) -> Sequence[str]:
    visits = "{ ssl_fc_sni -m beg http }"
    return [
        *_limited(TABLE, most // NODE_SHARE, only=f" if !{visits}"),
        *_limited(VISITORS, int(most_visitors * VISITORS_SHARE), only=f" if {visits}"),
        *_limited(ALL_VISITORS, most_visitors, only=f" if {visits}", key="int(1)"),
    ]


def _backend(name: str, where: str, nodes: Collection[str]) -> list[str]:
    return [
        f"backend {name}",
        "  use-server %[var(sess.node)] if TRUE",
        *(f"  server {node} {where}" for node in nodes),
    ]
