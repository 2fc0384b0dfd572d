"""Another machine, as far as its HAProxy goes, with a certificate of the cluster's CA."""

from pathlib import Path

from cryptography import x509

from homeport import signing
from homeport.contract.traffic import Peer
from homeport.ingress.peer import PeerPort
from homeport.link import authority, identity
from homeport.link.authority import Authority
from homeport.link.identity import Identity
from homeport.settings import Settings

A, B = Identity(name="a", id="a" * 32), Identity(name="b", id="b" * 32)


def pair(ca: Authority, node: Identity) -> bytes:
    """Return a key and a certificate for a node."""
    key, csr = authority.request()
    return key + ca.sign(csr, node).encode()


def of_an_earlier_version(ca: Authority, node: Identity) -> bytes:
    """Return a key and a certificate for a node, whose subject does not say whose it is."""
    key, csr = authority.request()
    public = x509.load_pem_x509_csr(csr.encode()).public_key()
    until = signing.now() + signing.SKEW * 24
    return key + ca._sign(public, (node.host, node.containers), until, "homeport node")


class Machine:
    """Another machine's HAProxy."""

    def __init__(self, root: Path, ca: Authority, node: Identity) -> None:
        self.node = node
        self.settings = Settings(home=root / node.name)
        self.settings.run_dir.mkdir(parents=True)
        self.settings.socket_dir.mkdir(parents=True, exist_ok=True)
        cluster = self.settings.home / "cluster"
        cluster.mkdir()
        (cluster / "joined-ca.pem").write_text(ca.pem)
        self.pair = cluster / "node.pem"
        self.pair.write_bytes(pair(ca, node))
        self.port = PeerPort(self.settings, identity.CONTROL)

    async def open(self) -> "Machine":
        await self.port.open(0)
        await self.port.start()
        return self

    @property
    def peer(self) -> Peer:
        return Peer(host="127.0.0.1", port=self.port.port, name=self.node.host, id=self.node.id)
