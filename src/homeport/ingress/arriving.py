"""Renders haproxy.cfg of a joined machine, as a pure function of `Arriving`.

One port, for the ingress of the control plane alone: mTLS with the cluster's CA, and the subject of the client's certificate
has the control plane's name, which no node's certificate has. The first label of the name in the handshake says for which container
a connection is. It is led on as bytes: what the ingress says to a container here is what it would say to one of its own
machine. A connection for an unknown container ends.

Each container has a backend of its own from a supply, so that no connection can come to another container.
"""

from collections.abc import Mapping
from dataclasses import field

from homeport.contract.dataclass import dataclass

LINK = "cluster"  # in HAProxy's working directory: the home's directory of that name
PAIR = f"{LINK}/node.pem"
CONTAINERS = "containers"  # the map: a label -> a backend
BACKEND = "c"  # the first letter of the backends' names
STRANGER_S = 10  # for a handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """The values in a configuration."""

    control: str  # the Runtime API's socket
    listener: int  # the descriptor of the listening socket
    of_control: str  # the name in the control plane's certificate
    most: int  # connections
    backends: int
    servers: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # backend -> label, address
    again: str = ""  # see `Described`

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the process needs."""
        return (self.listener,)


def render(arriving: Arriving) -> str:
    """Return the text of haproxy.cfg."""
    lines = [
        "global",
        f"  maxconn {arriving.most}",
        "  no strict-limits",
        f"  stats socket unix@{arriving.control} mode 600 level admin",
        "  stats timeout 1h",
        # A resumed session would not verify the certificates again.
        "  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets",
        "  tune.ssl.cachesize 0",
        "",
        "defaults",
        "  mode tcp",
        "  timeout connect 5s",
        # For a stranger. As soon as the container is connected, the ingress alone limits how long a request takes.
        f"  timeout client {STRANGER_S}s",
        f"  timeout server {STRANGER_S}s",
        "  timeout tunnel 24d",
        "  timeout client-fin 30s",
        "  timeout server-fin 30s",
        "  retries 0",
        "",
        "frontend peer",
        f"  bind fd@{arriving.listener} ssl crt {PAIR} ca-file {LINK}/joined-ca.pem verify required",
        f"  maxconn {arriving.most}",
        "  option clitcpka",
        f"  tcp-request session reject unless {{ ssl_c_s_dn(cn) -m str {arriving.of_control} }}",
        f"  tcp-request content set-var(txn.there) ssl_fc_sni,lower,field(1,.),map_str({CONTAINERS}.map)",
        "  tcp-request content reject unless { var(txn.there) -m found }",
        "  use_backend %[var(txn.there)]",
    ]
    for number in range(arriving.backends):
        name = f"{BACKEND}{number}"
        lines.append(f"backend {name}")
        if (server := arriving.servers.get(name)) is not None:
            lines.append(f"  server {' '.join(server)}")
    return "\n".join([*lines, ""])
