"""Private keys, and requests for their certificates."""

import contextlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from homeport import private, signing


def new() -> bytes:
    """Return a new private key in PEM: P-256, which every client knows and which costs a handshake the least."""
    return signing.pem(ec.generate_private_key(ec.SECP256R1()))


def load_or_make(path: Path) -> bytes:
    """Return the key in a file; make both if the file does not exist, or if it is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        key = path.read_bytes()
        if isinstance(serialization.load_pem_private_key(key, None), ec.EllipticCurvePrivateKey):
            return key
    key = new()
    private.write(path, key)
    return key


def request(key: bytes, hosts: tuple[str, ...]) -> bytes:
    """Return a request for a certificate (CSR) in PEM.

    The common name is empty: it has room for 64 characters only, and nothing reads it any more.
    """
    secret = serialization.load_pem_private_key(key, None)
    if not isinstance(secret, ec.EllipticCurvePrivateKey):
        raise TypeError("a key of an elliptic curve is needed")
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, False)
    return builder.sign(secret, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
