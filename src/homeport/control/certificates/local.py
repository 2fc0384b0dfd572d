"""The local CA (`tls = local`): certificates for development, which browsers accept once its certificate is installed.

Its key is a file of mode 0600 in the home. Everybody who reads it could sign for the names that the CA's certificate permits,
and for no other (RFC 5280, 4.2.1.10): homeport's own domain, and names that belong to nobody. So a stolen key opens no
bank. A domain that the certificate does not permit needs another CA, which has to be installed again.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from homeport import private, signing
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, StorageError

#: Names that cannot be registered: RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`.
RESERVED = ("localhost", "test", "home.arpa", "local", "internal")
CA_DAYS = 3650
DAYS = 90  # of a host's certificate; it is renewed after two thirds

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ca:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Local:
    """The CA of one home."""

    def __init__(self, certificate: Path, domain: str) -> None:
        """`certificate`: the file with the CA's certificate. `domain`: homeport's own, which the CA may sign for."""
        self.certificate = certificate
        self._directory = certificate.parent
        self._domain = domain
        self._ca: _Ca | None = None

    @property
    def fingerprint(self) -> str:
        """Return 8 hexadecimal digits of the CA's certificate's digest."""
        assert self._ca is not None
        return self._ca.certificate.fingerprint(hashes.SHA256()).hex()[:8]

    async def opened(self) -> None:
        """Do what `open` does, in a thread."""
        await asyncio.to_thread(self.open)

    def open(self) -> None:
        """Read the CA, or make one. Raises `StorageError`."""
        try:
            self._ca = self._read()
            if self._ca is None:
                self._ca = self._make()
        except OSError as error:
            raise StorageError(
                f"the local CA cannot be kept in {self._directory}: {error.strerror}"
            ) from None

    async def issue(self, hosts: tuple[str, ...]) -> bytes:
        """Return a new private key and the certificate's chain in PEM."""
        refused = tuple(host for host in hosts if not permitted(host, self._domain))
        if refused:
            raise BadRequest(
                f"the local CA may not sign for {', '.join(refused)}",
                hint=f"use a name below {', '.join(f'`.{domain}`' for domain in RESERVED)}",
            )
        return await asyncio.to_thread(self._sign, hosts)

    def _sign(self, hosts: tuple[str, ...]) -> bytes:
        assert self._ca is not None
        key = ec.generate_private_key(ec.SECP256R1())
        # A client refuses a certificate that outlives its CA's.
        until = min(
            signing.now() + dt.timedelta(days=DAYS), self._ca.certificate.not_valid_after_utc
        )
        certificate = (
            signing.of_host(
                signing.named("homeport"),
                key.public_key(),
                until,
                issuer=self._ca.certificate.subject,
                issuer_key=self._ca.key.public_key(),
            )
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, hosts)), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._ca.key, hashes.SHA256())
        )
        return signing.pem(key) + certificate.public_bytes(Encoding.PEM)

    def _read(self) -> _Ca | None:
        """Return the CA in the home; None if there is no usable one."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            key = serialization.load_pem_private_key(
                (self._directory / "ca.key").read_bytes(), None
            )
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            log.warning("the local CA in %s cannot be read: %s", self._directory, error)
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not _belong(certificate, key):
            log.warning("the local CA in %s has another key", self._directory)
            return None
        if certificate.not_valid_after_utc < signing.now() + dt.timedelta(days=DAYS):
            log.warning("the local CA in %s ends soon", self._directory)
            return None
        if not _permits(certificate, self._domain):
            log.warning("the local CA in %s is not for %s", self._directory, self._domain)
            return None
        return _Ca(certificate=certificate, key=key)

    def _make(self) -> _Ca:
        key = ec.generate_private_key(ec.SECP256R1())
        # Two CAs with one name would confuse a client that has both.
        name = signing.named(f"homeport local CA {os.urandom(4).hex()}")
        trees = [x509.DNSName(tree) for tree in dict.fromkeys((self._domain, *RESERVED))]
        # Nor for any address: without this, a certificate for an address is not held back.
        nowhere = [
            x509.IPAddress(ipaddress.ip_network(network)) for network in ("0.0.0.0/0", "::/0")
        ]
        until = signing.now() + dt.timedelta(days=CA_DAYS)
        certificate = (
            signing.of_ca(name, key.public_key(), until)
            .add_extension(x509.NameConstraints(trees, nowhere), critical=True)
            .sign(key, hashes.SHA256())
        )
        log.warning("there is a new local CA: `homeport trust` says how browsers accept it")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        private.write(self._directory / "ca.key", signing.pem(key))
        private.write(self.certificate, certificate.public_bytes(Encoding.PEM))
        return _Ca(certificate=certificate, key=key)


def permitted(host: str, domain: str) -> bool:
    """Return whether the CA of a homeport with this domain may sign for a host.

    >>> permitted("shop.test", "a.example.com"), permitted("example.com", "a.example.com")
    (True, False)
    """
    name = host.removeprefix("*.")
    return any(f".{name}".endswith(f".{tree}") for tree in (domain, *RESERVED))


def _permits(certificate: x509.Certificate, domain: str) -> bool:
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        trees = [str(tree.value) for tree in constraints.permitted_subtrees or ()]
        return any(f".{domain}".endswith(f".{tree}") for tree in trees)
    return False


def _belong(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    with contextlib.suppress(InvalidSignature, ValueError, TypeError):
        certificate.verify_directly_issued_by(certificate)
        return bool(certificate.public_key() == key.public_key())
    return False
