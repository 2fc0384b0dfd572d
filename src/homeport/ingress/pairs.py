"""Reads a certificate with its private key, and refuses a pair with which HAProxy could not start.

HAProxy ends at its start if one of its certificates is damaged, and every URL would end with it. So each is read here
first, and written again by the library: no text of its author reaches HAProxy's files and commands.
"""

from collections.abc import Collection
from dataclasses import field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from homeport import signing
from homeport.contract import hosts as names
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest

MAX_BYTES = 64 * 1024  # of a PEM; it has to fit one command to HAProxy
MIN_RSA_BITS = 2048  # OpenSSL refuses a shorter key
#: Faults of a certificate that are no `ValueError` of the library.
UNUSUAL = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate with its chain and its private key."""

    pem: bytes = field(repr=False)  # the key, the certificate, the chain
    names: tuple[str, ...]  # the hosts in the certificate, in lower case; wildcards too


def read(pem: bytes, hosts: Collection[str] = ()) -> Pair:
    """Return the pair in a PEM; `BadRequest` if the PEM has none, or if it is not for one of `hosts`."""
    if len(pem) > MAX_BYTES:
        raise BadRequest(f"a certificate with its chain and key has at most {MAX_BYTES >> 10} KiB")
    try:
        chain = x509.load_pem_x509_certificates(pem)
        named = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names_found = tuple(name.lower() for name in named.value.get_values_for_type(x509.DNSName))
        public = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm, *UNUSUAL) as error:
        raise BadRequest(f"the certificate cannot be read: {error}") from None
    except x509.ExtensionNotFound:
        raise BadRequest("the certificate has no names (subjectAltName)") from None
    key = _key(pem)
    if _bytes(key.public_key()) != _bytes(public):
        raise BadRequest("the private key is not the certificate's")
    names_found = tuple(name for name in dict.fromkeys(names_found) if names.is_name(name))
    for host in hosts:
        if not (names.is_name(host) and names.covers(names_found, host)):
            raise BadRequest(f"the certificate is not for {host!r}")
    if not names_found:
        raise BadRequest("the certificate is for no host name")
    return Pair(
        pem=signing.pem(key) + b"".join(c.public_bytes(Encoding.PEM) for c in chain),
        names=names_found,
    )


_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _key(pem: bytes) -> _Key:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise BadRequest("the private key is encrypted", hint="remove its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadRequest("there is no private key in the PEM that can be read") from None
    if not isinstance(key, _Key):
        raise BadRequest("a private key is RSA, an elliptic curve's or Ed25519")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise BadRequest(f"an RSA key needs {MIN_RSA_BITS} bits, and this one has {key.key_size}")
    return key


def _bytes(key: object) -> bytes:
    """Return a public key's bytes, to compare it."""
    assert hasattr(key, "public_bytes")
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
