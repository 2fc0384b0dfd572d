"""Servers of other machines, as words of haproxy.cfg; without such machines there is none of them.

A container there is `peer:NODE/LABEL`. One port of its machine leads to all of its containers (`peer`), by mTLS: the name
in the handshake is LABEL and the machine's own name, so it says which container the connection is for, and HAProxy
compares it with the machine's certificate. Connections are kept and used again for one container alone, as each server has
its own.
"""

import re
from collections.abc import Mapping

from homeport.contract.dataclass import dataclass
from homeport.contract.traffic import Peer

SCHEME = "peer:"
STRANGER_S = 10  # for the handshake of another machine
LINK = "cluster"  # in HAProxy's working directory: the home's directory of that name
PAIR = f"{LINK}/control.pem"
BACKEND = "peers"  # one server for each machine: it says whether the machine answers
CHECK = "check"  # a label that no container has
CONNECT = "1s"  # what a dead machine may cost a request
#: A handshake every 0.48 s, and one that fails marks all containers of the machine as down, before a request that waits
#: for one of them has waited for CONNECT. So it tries none of the others. A handshake may take as long as the time between two
#: of them; it takes two round trips, so a machine may be 0.2 s away, there and back.
CHECKS = "check check-ssl inter 480ms downinter 200ms rise 1 fall 1"
#: The answer of a machine whose container has ended before a request came to it. No app's answer has this status, because
#: runners write another one (runner/servers/answer.py), so the ingress may try such a request again.
GONE = 425
BY_GONE = "X-Homeport-Gone"
_ADDRESS = re.compile(r"peer:([a-z0-9-]{1,40})/([a-z0-9-]{1,63})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A container of another machine."""

    node: str
    label: str


def parse(address: str) -> Elsewhere | None:
    """Return the container that an address means; None for an address of this machine.

    >>> parse("peer:a/ta-1").label, parse("abstract:homeport-ta-1")
    ('ta-1', None)
    """
    if not address.startswith(SCHEME):
        return None
    if not (match := _ADDRESS.fullmatch(address)):
        raise ValueError(f"not an address of another machine's container: {address!r}")
    return Elsewhere(node=match[1], label=match[2])


def where(peer: Peer) -> str:
    """Return HAProxy's address of a machine.

    >>> where(Peer(host="::1", port=7601, name="n"))
    'ipv6@::1:7601'
    """
    return f"ipv{6 if ':' in peer.host else 4}@{peer.host}:{peer.port}"


def members(peers: Mapping[str, Peer]) -> dict[str, str]:
    """Return the map of machines whose containers may call: an id -> the machine's name."""
    return {peer.id: node for node, peer in peers.items() if peer.id}


def words(there: Elsewhere, peer: Peer) -> tuple[str, ...]:
    """Return what a container's server has after its address and its limit."""
    return (*_tls(f"{there.label}.{peer.name}"), "track", f"{BACKEND}/{there.node}")


def backend(peers: Mapping[str, Peer]) -> list[str]:
    """Return the backend with the machines."""
    if not peers:
        return []
    return [
        f"backend {BACKEND}",
        *(
            f"  server {node} {where(peer)} {' '.join(_tls(f'{CHECK}.{peer.name}'))} "
            f"{CHECKS} check-sni {CHECK}.{peer.name}"
            for node, peer in peers.items()
        ),
    ]


def tls(pair: str, ca: str, name: str) -> str:
    """Return the words of a server on another machine; `name` is that in the handshake, the others are files."""
    # A session is not resumed: each handshake verifies both certificates again.
    return f"ssl crt {pair} ca-file {ca} verify required ssl-min-ver TLSv1.3 no-ssl-reuse sni str({name})"


def _tls(name: str) -> tuple[str, ...]:
    return tuple(tls(PAIR, f"{LINK}/ca.pem", name).split())


def defaults() -> list[str]:
    """Return the defaults of a port that another machine connects to: short for a stranger, and unlimited once it is led on."""
    return [
        "defaults",
        "  mode tcp",
        "  timeout connect 5s",
        f"  timeout client {STRANGER_S}s",
        f"  timeout server {STRANGER_S}s",
        "  timeout tunnel 24d",
        "  timeout client-fin 30s",
        "  timeout server-fin 30s",
    ]
