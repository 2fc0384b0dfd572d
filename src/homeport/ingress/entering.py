"""Visitors who come in at a joined machine, as lines of its haproxy.cfg. PURE. The other end is `entered`.

Each connection is led as bytes, by mTLS, to the port for nodes of the ingress, which has the certificates of domains, knows the
endpoints and counts slots. So HTTP/2, WebSockets and uploads are the same here as there.

A PROXY header within the mTLS says who the visitor is. HAProxy would write it before the handshake, in the clear, so
the connection passes a Unix socket of this process first, which only its user can open.

While the ingress does not answer, a connection waits here for PATIENCE tries of a second. A server with a check would be refused
to it, and a check that ends connections would end those that wait too.
"""

import re
from collections.abc import Collection, Mapping

from homeport.contract.dataclass import dataclass
from homeport.ingress import elsewhere, entered
from homeport.ingress.leaving import ALIVE
from homeport.ingress.runtime import Command

PATIENCE = 30
VANISHED_S = 60
BACKEND, SERVER = "entering", "ingress"  # each backend's name begins so; and its only server
BACKENDS = tuple(f"{BACKEND}-{kind}" for kind in (entered.HTTP, entered.HTTPS))
#: A line of `show sess` whose connection to a server is established (8).
_LED_ON = re.compile(r"^(0x[0-9a-f]+): .*? be=(\S+) srv=\S+ .*? scb=\[8,")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entering:
    """The values in these lines."""

    listeners: Mapping[str, int]  # `entered.HTTP` or `entered.HTTPS` -> a descriptor
    directory: str  # for the sockets
    where: str  # HAProxy's address of the ingress's port for nodes
    of_control: str  # the name in the control plane's certificate
    ca: str  # the files
    pair: str
    most: int  # visitors at once

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the process needs."""
        return tuple(self.listeners.values())


def render(entering: Entering) -> list[str]:
    """Return the sections; they have defaults of their own."""
    return [
        "defaults",
        "  mode tcp",
        f"  retries {PATIENCE}",
        # Each try is at the server's address of the moment: another machine may lead by then (`moved`).
        "  option redispatch 1",
        "  timeout connect 1s",
        # Until the ingress answers; as soon as a connection is led on, the ingress alone limits how long it stays.
        f"  timeout client {2 * PATIENCE}s",
        f"  timeout server {2 * PATIENCE}s",
        "  timeout tunnel 24d",
        "  timeout client-fin 30s",
        "  timeout server-fin 30s",
        "",
        *(line for kind in entering.listeners for line in _kind(entering, kind)),
    ]


def _kind(entering: Entering, kind: str) -> list[str]:
    socket = f"unix@{entering.directory}/{BACKEND}-{kind}.sock"
    tls = elsewhere.tls(entering.pair, entering.ca, f"{kind}.{entering.of_control}")
    return [
        f"frontend visitors-{kind}",
        f"  bind fd@{entering.listeners[kind]} tcp-ut {VANISHED_S}s",
        f"  maxconn {entering.most}",
        "  option clitcpka",
        "  clitcpka-idle 60s",
        "  clitcpka-intvl 15s",
        "  clitcpka-cnt 4",
        f"  default_backend visitors-{kind}",
        f"backend visitors-{kind}",
        f"  server named {socket} send-proxy-v2",
        f"frontend named-{kind}",
        f"  bind {socket} mode 600",
        f"  maxconn {entering.most}",
        f"  default_backend {BACKEND}-{kind}",
        f"backend {BACKEND}-{kind}",
        # `PeerPort.part` ends connections to a machine that is gone; without an agent, this ends the silent ones. There is no
        # limit for data that is not acknowledged: an upload may wait for its container.
        *ALIVE,
        f"  server {SERVER} {entering.where} {tls}",
    ]


def kinds(https: int) -> tuple[str, ...]:
    """Return the kinds of connections that visitors open.

    >>> kinds(0), kinds(443)
    (('http',), ('http', 'https'))
    """
    return (entered.HTTP, entered.HTTPS) if https else (entered.HTTP,)


def led_on(text: str, backends: Collection[str]) -> list[str]:
    """Return the connections of these backends that the ingress has taken, in the answer to `show sess`; the others wait for it.

    >>> led_on("0x7f: proto=unix_stream fe=named-http be=entering-http srv=ingress ts=00 scf=[8,0h] scb=[8,0h] rc=0", BACKENDS)
    ['0x7f']
    """
    matches = filter(None, map(_LED_ON.match, text.splitlines()))
    return [match[1] for match in matches if match[2] in backends]


def moved(entering: Entering, host: str, port: int) -> list[Command]:
    """Return the commands by which connections that wait try another address of the ingress."""
    return [
        ("set", "server", f"{BACKEND}-{kind}/{SERVER}", "addr", host, "port", f"{port}")
        for kind in entering.listeners
    ]
