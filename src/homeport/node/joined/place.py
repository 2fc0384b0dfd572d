"""What a machine stores when it joins, in the home's directory `cluster`: the CA, its key and certificate, the address.

The key is made here, has mode 0600, and never leaves the machine.
"""

import ipaddress
import json
import ssl
from collections.abc import Sequence
from pathlib import Path

from homeport import private
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.link import identity

PORT = 7600


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the control plane listens for nodes."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address(text: str) -> Address:
    """Return the address in a text; `BadRequest` for any other text.

    >>> str(address("10.0.0.1")), str(address("https://[::1]:99/")), str(address("a.example:1"))
    ('10.0.0.1:7600', '[::1]:99', 'a.example:1')
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or (port is not None and not 0 < port < 65536):
        raise BadRequest(
            f"`{text[:100]}` is no address", hint="such as 10.0.0.1, or control.example.com:7600"
        )
    return Address(host=host, port=port or PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where the ingress of the control plane reaches this machine's containers."""

    host: str = ""  # an IP address; empty: the one from which the agent connects
    port: int | None = None  # None: the usual one

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


USUAL = Reach()


def reach(text: str) -> Reach:
    """Return what `--reach` says; `BadRequest` for any other text.

    >>> str(reach("10.0.0.2:7700")), str(reach(":7700")), str(reach("[::1]:1")), reach("")
    ('10.0.0.2:7700', ':7700', '[::1]:1', Reach(host='', port=None))
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
        if host:
            ipaddress.ip_address(host)
        if port == 0 or parts.path or "@" in text:
            raise ValueError(text)
    except ValueError:
        raise BadRequest(
            f"`{text[:100]}` is no address of this machine",
            hint="such as 10.0.0.2:7601, :7601 or 10.0.0.2",
        ) from None
    return Reach(host=host, port=port)


class Place:
    """The files of one machine."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "cluster"
        self.ca = self.directory / "joined-ca.pem"
        self.pair = self.directory / "node.pem"
        self._told = self.directory / "joined.json"
        self._others = self.directory / "others.json"

    def others(self) -> tuple[Address, ...]:
        """Return where the control plane may be too."""
        try:
            return tuple(address(str(text)) for text in json.loads(self._others.read_text()))
        except (OSError, ValueError, TypeError, BadRequest):
            return ()

    def note_others(self, others: Sequence[Address]) -> None:
        """Keep where the control plane may be too."""
        private.write(self._others, json.dumps([str(other) for other in others]).encode())

    def read(self) -> tuple[str, Address, Reach] | None:
        """Return the node's name, the control plane's address, and where containers are reached; None if this
        machine has not joined.
        """
        try:
            saved = json.loads(self._told.read_text())
            name, where = str(saved["name"]), str(saved["address"])
            return identity.check_name(name), address(where), reach(str(saved.get("reach", "")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise BadRequest(
                f"{self._told} is damaged", hint="remove it, and let the machine join again"
            ) from None

    def trusting(self, ca: bytes) -> ssl.SSLContext:
        """Return a context for a CA that is not kept yet: until it has joined, this machine stays what it was."""
        fresh = self.ca.with_suffix(".new")
        private.write(fresh, ca)
        try:
            return identity.of_node(fresh, None)
        finally:
            fresh.unlink()

    def write(self, name: str, where: Address, there: Reach, ca: bytes, pair: bytes) -> None:
        """Keep the CA, the name, both addresses, and the pair of key and certificate: as the last step of joining."""
        private.write(self.ca, ca)
        private.write(self.pair, pair)
        saved = json.dumps({"name": name, "address": str(where), "reach": str(there)})
        private.write(self._told, saved.encode())

    def forget(self) -> None:
        """Delete everything: the machine was removed."""
        for path in (self._told, self._others, self.pair, self.ca):
            path.unlink(missing_ok=True)
