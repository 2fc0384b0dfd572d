"""Who a certificate is for, and the TLS of both ends. Only TLS 1.3, only certificates of the cluster's own CA.

A node's certificate has the name `<node>.<id>.node.homeport.internal`, and the same with `*.` for its containers; its subject is the id. The id is new each time that a machine joins, and the
control plane knows the present id of each node. So it refuses the old certificate of a node that was removed, or that
joined again.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest

DOMAIN = "node.homeport.internal"
#: The name in the control plane's certificate, wherever it runs.
CONTROL = "control.homeport.internal"
OWN = "here"  # the name of the control plane's own machine
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A node, from when it joins to when it is removed."""

    name: str
    id: str  # 32 hex digits

    @property
    def host(self) -> str:
        """The name in its certificate.

        >>> Identity(name="a", id="0" * 32).host
        'a.00000000000000000000000000000000.node.homeport.internal'
        """
        return f"{self.name}.{self.id}.{DOMAIN}"

    @property
    def containers(self) -> str:
        """The other name in its certificate: the ingress connects to `<container>.<host>`."""
        return f"*.{self.host}"


def check_name(name: str) -> str:
    """Return a name that a node may have; `BadRequest` for any other."""
    if not _NAME.fullmatch(name) or name == OWN:
        raise BadRequest(
            f"`{name[:60]}` cannot be the name of a node",
            hint=f"use up to 40 lower-case letters, digits and dashes, such as `worker-1`; `{OWN}` is this machine",
        )
    return name


def of_certificate(peer_certificate: Mapping[str, Any] | None) -> Identity | None:
    """Return the node that a verified certificate is for, from `SSLSocket.getpeercert()`; None if it is not a node's."""
    names = [
        value for kind, value in (peer_certificate or {}).get("subjectAltName", ()) if kind == "DNS"
    ]
    # The second name is for its containers: see `Identity.containers`.
    if not names or names[1:] not in ([], [f"*.{names[0]}"]) or not names[0].endswith(f".{DOMAIN}"):
        return None
    name, _, identity = names[0].removesuffix(f".{DOMAIN}").partition(".")
    if name == OWN or not _NAME.fullmatch(name) or not _ID.fullmatch(identity):
        return None
    return Identity(name=name, id=identity)


def of_control(ca: Path, pair: Path) -> ssl.SSLContext:
    """Return the TLS of the control plane. A peer without a certificate may connect, only to join."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # each connection shows its certificate again
    context.load_cert_chain(pair)
    return context


def of_node(ca: Path, pair: Path | None) -> ssl.SSLContext:
    """Return the TLS of a node; without a pair of key and certificate it can only join."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ca)
    if pair is not None:
        context.load_cert_chain(pair)
    return context


def of_stranger() -> ssl.SSLContext:
    """Return the TLS of the very first connection, which asks for the CA: nothing secret may be sent on it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(protocol: int, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)  # and no other: the system's CAs are not loaded
    return context
