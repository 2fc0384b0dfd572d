"""Checks what an agent reports before the control plane uses it: PURE.

A node runs the containers that it was given, and may report false things about them. It cannot speak for a container of another
node, for another app's log, or make the ingress connect to an address of its choice.
"""

import dataclasses
import ipaddress
import re
from collections import OrderedDict
from pathlib import Path

from homeport.contract.container import Container, LogLine, StartOrder, State
from homeport.contract.traffic import Peer
from homeport.link.frames import Broken
from homeport.link.identity import Identity
from homeport.link.messages import Hello
from homeport.link.seals import Sealer

MOST_ORDERS = 5000  # that are remembered; the last lines of a container come after its end
SKEW_S = 600.0  # a line's time may differ this much from the control plane's clock
_CONTAINER = re.compile(r"ta-[a-z0-9-]{1,40}")
_TUNNEL = re.compile(r"[0-9a-f]{20}")
_TREE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def tree_of(source: str, sources: Path) -> str:
    """Return the name by which a node asks for a source tree; `sources` is the directory of all trees.

    >>> tree_of("/h/revisions/rv-1", Path("/h/revisions")), tree_of("", Path("/h"))
    ('rv-1', '')
    """
    if not source:
        return ""
    path = Path(source)
    if path.parent != sources or not is_tree(path.name):
        raise ValueError(f"{source} is not a source tree of this server")
    return path.name


def is_tree(name: str) -> bool:
    """Return whether a text can be the name of a tree: one step of a path, and not hidden."""
    return _TREE.fullmatch(name) is not None


def peer(node: Identity, came_from: str, hello: Hello, networks: str) -> Peer | None:
    """Return where the ingress finds the node's containers; None if it does not reach them.

    The node chooses the port. It is reached at the address from which it came, and at another one, or at one of this
    machine, only if that is in the operator's `networks`. `Broken` for anything else. Whatever listens there, nothing is sent to
    it before it has shown the node's own certificate.
    """
    if not hello.port:
        return None
    try:
        address = _address(hello.reach or came_from)
        is_same = address == _address(came_from)
    except ValueError:
        raise Broken(f"`{hello.reach[:60]}` is not an IP address") from None
    if not 0 < hello.port < 65536:
        raise Broken(f"{hello.port} is not a port")
    is_usual = is_same and not (address.is_loopback or address.is_link_local)
    allowed = (ipaddress.ip_network(text) for text in networks.split(",") if text)
    if not is_usual and not any(address in network for network in allowed):
        raise Broken(
            f"its containers would be reached at {address}, and it connects from {came_from}: "
            "HOMEPORT_NODE_NETWORKS of the control plane has to allow that address"
        )
    return Peer(host=str(address), port=hello.port, name=node.host, id=node.id)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:  # it would mean something else on this machine
            raise ValueError(text)
        return address.ipv4_mapped or address
    return address


class Reports:
    """The reports of one node, as the control plane takes them."""

    def __init__(self, node: str, sources: Path, sealer: Sealer) -> None:
        self._node, self._sources = node, sources
        self.reached = False  # the ingress can connect to the node's containers
        self._sealer = sealer
        self._orders: OrderedDict[str, StartOrder] = OrderedDict()

    def ordered(self, order: StartOrder) -> StartOrder:
        """Remember an order that the control plane is about to send; return it as the node gets it."""
        self._remember(order)
        sent = dataclasses.replace(order, source=tree_of(order.source, self._sources))
        return dataclasses.replace(sent, seal=self._sealer.seal(sent))

    def _remember(self, order: StartOrder) -> None:
        self._orders[order.id] = order
        self._orders.move_to_end(order.id)
        while len(self._orders) > MOST_ORDERS:
            self._orders.popitem(last=False)

    def container(self, reported: Container) -> Container | None:
        """Return a container as the control plane takes it; None for one that the node was never given.

        Its order is the one that was sent. After a restart of the control plane it is the node's, if it has its seal.
        Raises `Broken` for what no agent reports.
        """
        if not _CONTAINER.fullmatch(reported.id):
            raise Broken(f"an agent reports `{reported.id[:40]}`, which is no container's id")
        if reported.state is State.LOST:
            raise Broken("an agent reports the state `lost`, which only the control plane uses")
        if (order := self._orders.get(reported.id)) is None:
            if not self._sealer.knows(reported.order):
                return None
            source = reported.order.source
            if source and not is_tree(source):
                raise Broken("an agent reports a source tree that cannot be")
            source = str(self._sources / source) if source else ""
            order = dataclasses.replace(reported.order, source=source, seal="")
            self._remember(order)
        return dataclasses.replace(
            reported,
            order=order,
            node=self._node,
            held=min(max(reported.held, 0), order.function.max_inputs),
            address=self._address(reported.id) if reported.address else "",
            tunnels=tuple(
                dataclasses.replace(tunnel, address=self._address(tunnel.name))
                for tunnel in reported.tunnels
                if self.reached and _TUNNEL.fullmatch(tunnel.name)
            ),
        )

    def line(self, reported: LogLine, now: float) -> LogLine | None:
        """Return a line of the log as the control plane takes it; None for a container that the node never had."""
        if (order := self._orders.get(reported.container)) is None:
            return None
        return dataclasses.replace(
            reported,
            at=reported.at if abs(reported.at - now) <= SKEW_S else now,
            app=order.pool.app,
            function=order.pool.function,
            within=order.within,
            source="system" if reported.source == "system" else "output",
            node=self._node,
        )

    def _address(self, label: str) -> str:
        """Return where the ingress finds a container or a tunnel: at its own node, whatever the node reports."""
        return f"peer:{self._node}/{label}" if self.reached else ""
