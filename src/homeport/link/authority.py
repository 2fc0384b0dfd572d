"""The cluster's own CA: it signs the certificates of the control plane and of the nodes. Only their connections trust it.

Its key is a file of mode 0600 in the home's directory `cluster`, and never leaves the machine. A node's certificate
is valid for two weeks, and is renewed over the connection after one.
"""

import datetime as dt
import hmac
import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from homeport import private, signing
from homeport.contract.errors import BadRequest, StorageError
from homeport.link.identity import CONTROL, Identity

CA_DAYS = 3650
CONTROL_DAYS = 90
NODE_DAYS = 14
MAX_CSR_CHARS = 4096


class Authority:
    """The CA in a directory."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "ca.pem"
        self.pair = directory / "control.pem"  # the control plane's key and certificate
        self._key_file = directory / "ca.key"
        self._ca: x509.Certificate | None = None
        self._key: ec.EllipticCurvePrivateKey | None = None

    def open(self) -> None:
        """Read the CA, or make one, and sign a new certificate for the control plane. Blocks; raises `StorageError`."""
        try:
            if self.certificate.exists() or self._key_file.exists():
                self._read()
            else:
                self._make()
            self.renew()
        except OSError as error:
            raise StorageError(
                f"the cluster's CA cannot be kept in {self.certificate.parent}: {error.strerror}"
            ) from None

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        assert self._ca is not None
        return self._ca.public_bytes(Encoding.PEM).decode()

    @property
    def key_of_orders(self) -> bytes:
        """The key for `seals`. It is derived from the CA's key, so a backup of that has it too."""
        assert self._key is not None
        number = self._key.private_numbers().private_value.to_bytes(32, "big")
        return hmac.digest(number, b"homeport seals of orders", "sha256")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate, in hex."""
        return fingerprint(self.pem)

    def renew(self) -> dt.datetime:
        """Write a new key and certificate for the control plane; return when to do it again."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = signing.now() + dt.timedelta(days=CONTROL_DAYS)
        hosts = (CONTROL, f"*.{CONTROL}")
        certificate = self._sign(key.public_key(), hosts, until, CONTROL)
        private.write(self.pair, signing.pem(key) + certificate)
        return signing.now() + dt.timedelta(days=CONTROL_DAYS / 3)

    def sign(self, csr: str, identity: Identity, days: float = NODE_DAYS) -> str:
        """Return a certificate for the key of a request, as PEM. What else the request says is ignored.

        `BadRequest` for a request that is damaged, or whose key is not of the kind that homeport makes.
        """
        key = _key_of(csr)
        until = signing.now() + dt.timedelta(days=days)
        hosts = (identity.host, identity.containers)
        return self._sign(key, hosts, until, identity.id).decode()

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        hosts: tuple[str, ...],
        until: dt.datetime,
        subject: str,
    ) -> bytes:
        """Return a certificate for both directions. HAProxy 2.8 reads the subject alone, so that says who it is for."""
        assert self._ca is not None
        assert self._key is not None
        certificate = (
            signing.of_host(
                signing.named(subject),
                key,
                until,
                issuer=self._ca.subject,
                issuer_key=self._key.public_key(),
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=True
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=True,
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    def _read(self) -> None:
        try:
            ca = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm, FileNotFoundError) as error:
            raise self._damaged(str(error)) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
            raise self._damaged("the key is another one's")
        self._ca, self._key = ca, key

    def _damaged(self, why: str) -> StorageError:
        # Never made again by itself: no node would know the new one.
        return StorageError(
            f"the cluster's CA in {self.certificate.parent} is damaged: {why}",
            hint="restore it from a backup; or remove the directory, and let each node join again",
        )

    def _make(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = signing.named(f"homeport cluster {os.urandom(8).hex()}")
        until = signing.now() + dt.timedelta(days=CA_DAYS)
        builder = signing.of_ca(name, self._key.public_key(), until)
        self._ca = builder.sign(self._key, hashes.SHA256())
        private.write(self._key_file, signing.pem(self._key))
        private.write(self.certificate, self._ca.public_bytes(Encoding.PEM))


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of the first certificate of a PEM in hex; `BadRequest` if there is none."""
    return _first(pem).fingerprint(hashes.SHA256()).hex()


def pinned(pem: str, expected: str) -> bytes | None:
    """Return the one certificate that has this fingerprint, as PEM; None for another certificate.

    The text may have further certificates, which an attacker has added: OpenSSL would trust all that are in a file.
    """
    certificate = _first(pem)
    if not secrets.compare_digest(certificate.fingerprint(hashes.SHA256()).hex(), expected):
        return None
    return certificate.public_bytes(Encoding.PEM)


def _first(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise BadRequest("the certificate of the CA cannot be read") from None


def request() -> tuple[bytes, str]:
    """Return a new private key and a request for its certificate, both as PEM. The key stays where it was made."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(signing.named("homeport node"))
    return signing.pem(key), builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def certificate_of(pair: bytes) -> bytes:
    """Return the certificate of a PEM that has a key too; `ValueError` if there is none."""
    return pair[pair.index(b"-----BEGIN CERTIFICATE") :]


def renew_after(certificate: bytes) -> dt.datetime:
    """Return when half of a certificate's time has passed."""
    parsed = x509.load_pem_x509_certificate(certificate)
    begins, ends = parsed.not_valid_before_utc + signing.SKEW, parsed.not_valid_after_utc
    return begins + (ends - begins) / 2


def serves(certificate: bytes) -> bool:
    """Return whether a node's certificate is for its containers too, and its subject says whose it is; those of
    earlier versions lack one or the other.
    """
    parsed = x509.load_pem_x509_certificate(certificate)
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = names.get_values_for_type(x509.DNSName)
    subjects = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    is_of_containers = any(host.startswith("*.") for host in hosts)
    return is_of_containers and any(f".{subject.value!s}." in hosts[0] for subject in subjects)


def valid_until(certificate: bytes) -> dt.datetime:
    """Return when a certificate ends."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def valid_until_der(certificate: bytes) -> dt.datetime:
    """Return when a certificate in DER ends."""
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def _key_of(csr: str) -> ec.EllipticCurvePublicKey:
    if len(csr) > MAX_CSR_CHARS:
        raise BadRequest("the request for a certificate is too long")
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadRequest("the request for a certificate cannot be read") from None
    is_usual = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if not is_signed or not isinstance(key, ec.EllipticCurvePublicKey) or not is_usual:
        raise BadRequest("the request for a certificate is not signed with a P-256 key")
    return key
