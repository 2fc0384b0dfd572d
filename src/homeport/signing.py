"""What the certificates of homeport's own CAs have in common (RFC 5280): those of the local CA, and those of the cluster's.

A caller adds the extensions of its own, and signs. Keys are P-256, which every client knows and which costs a handshake the least.
"""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SKEW = dt.timedelta(hours=1)  # clocks differ


def now() -> dt.datetime:
    """Return the time, in UTC."""
    return dt.datetime.now(dt.UTC)


def named(text: str) -> x509.Name:
    """Return a name that has only a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(key: PrivateKeyTypes) -> bytes:
    """Return a private key as PEM, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def of_ca(
    name: x509.Name, key: ec.EllipticCurvePublicKey, until: dt.datetime
) -> x509.CertificateBuilder:
    """Return the certificate of a CA that signs itself and no other CA."""
    return (
        _begun(name, name, key, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )


def of_host(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    until: dt.datetime,
    *,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    """Return a certificate that a CA gives to a host, which can sign no other."""
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        _begun(name, issuer, key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(authority, critical=False)
    )


def _begun(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
