"""Renders haproxy.cfg of a joined machine, as a pure function of `Arriving`.

One port, for the ingress of the control plane alone: mTLS with the cluster's CA, and the subject of the client's certificate
has the control plane's name, which no node's certificate has. The first label of the name in the handshake says for which container
a connection is. It is led on as bytes: what the ingress says to a container here is what it would say to one of its own
machine.

Each container has a backend of its own from a supply, so that no connection can come to another container. If the container
has ended, which the control plane hears some milliseconds later, a request has come to nobody: the frontend `gone` answers it, and
the ingress sends it elsewhere (`elsewhere.GONE`).

What leaves the machine is in `leaving`, and visitors who come in here are in `entering`.
"""

from collections.abc import Mapping
from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.ingress import elsewhere, entering, leaving
from homeport.ingress.entering import Entering
from homeport.ingress.leaving import Leaving

LINK = "cluster"  # in HAProxy's working directory: the home's directory of that name
PAIR = f"{LINK}/node.pem"
CA = f"{LINK}/joined-ca.pem"
CONTAINERS = "containers"  # the map: a label -> a backend
BACKEND = "c"  # the first letter of the backends' names
NOBODY = "gone"  # the server that answers for a container that has ended
#: The first connection that a container refuses marks it as down.
DOWN = (
    "check inter 1h downinter 100ms rise 1 fall 1 observe layer4 error-limit 1 on-error mark-down"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """The values in a configuration."""

    control: str  # the Runtime API's socket
    again: str  # the socket of the frontend `gone`; each process has it to itself, see `Described`
    listener: int  # the descriptor of the listening socket
    of_control: str  # the name in the control plane's certificate
    most: int  # connections
    backends: int
    servers: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # backend -> label, address
    #: None: the control plane has no port for this machine's containers.
    leaving: Leaving | None = None
    entering: Entering | None = None  # None: no visitor comes in here

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the process needs."""
        parts = (part for part in (self.leaving, self.entering) if part is not None)
        return (self.listener, *(number for part in parts for number in part.descriptors))


def words(address: str) -> tuple[str, ...]:
    """Return a container's server without its name."""
    return (address, *DOWN.split())


def render(arriving: Arriving) -> str:
    """Return the text of haproxy.cfg."""
    return "\n".join(
        [
            *_global(arriving),
            *_peer(arriving),
            *_gone(arriving.again),
            *([] if arriving.leaving is None else leaving.render(arriving.leaving)),
            *([] if arriving.entering is None else entering.render(arriving.entering)),
            "",
        ]
    )


def _global(arriving: Arriving) -> list[str]:
    return [
        "global",
        # A visitor's connection passes a Unix socket of this process.
        f"  maxconn {(3 if arriving.entering is None else 5) * arriving.most}",
        "  no strict-limits",
        f"  stats socket unix@{arriving.control} mode 600 level admin",
        "  stats timeout 1h",
        # A resumed session would not verify the certificates again.
        "  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets",
        "  tune.ssl.cachesize 0",
        "  lua-load-per-thread ./gone.lua",
        *leaving.options(),
        "",
        # As soon as the container is connected, the ingress alone limits how long a request takes.
        *elsewhere.defaults(),
        "  option redispatch 1",
        "  retries 1",
        "",
    ]


def _peer(arriving: Arriving) -> list[str]:
    nobody = f"  server {NOBODY} unix@{arriving.again}"
    lines = [
        "frontend peer",
        f"  bind fd@{arriving.listener} ssl crt {PAIR} ca-file {CA} verify required",
        f"  maxconn {arriving.most}",
        "  option clitcpka",
        f"  tcp-request session reject unless {{ ssl_c_s_dn(cn) -m str {arriving.of_control} }}",
        f"  tcp-request content reject if {{ ssl_fc_sni -m beg {elsewhere.CHECK}. }}",
        f"  tcp-request content set-var(txn.there) ssl_fc_sni,lower,field(1,.),map_str({CONTAINERS}.map)",
        "  use_backend %[var(txn.there)] if { var(txn.there) -m found }",
        "  default_backend nobody",
        "backend nobody",
        nobody,
    ]
    for number in range(arriving.backends):
        name = f"{BACKEND}{number}"
        lines += [f"backend {name}", f"{nobody} backup"]
        if (server := arriving.servers.get(name)) is not None:
            label, address = server
            lines.append(f"  server {label} {' '.join(words(address))}")
    return lines


def _gone(socket: str) -> list[str]:
    """Return the frontend that says to the ingress that no container has seen the request."""
    return [
        "frontend gone",
        "  mode http",
        f"  bind unix@{socket} mode 600",
        "  option httpclose",  # a container can be forgotten once it has no connection
        "  timeout client 1h",
        "  http-request use-service lua.gone",
        "",
    ]
