"""A CA of the tests' own, and its certificates."""

import datetime as dt
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

UNUSUAL = ("a name by X.400", "an extension twice", "a version of the future")


class Authority:
    """Signs certificates for any host."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of tests")])
        self.certificate = (
            self._builder(self._name, self._key.public_key(), days=3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.text = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def pem(self, *hosts: str, days: int = 90, key=None) -> bytes:
        """Return a key and its certificate for these hosts."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a host of tests")])
        certificate = (
            self._builder(name, key.public_key(), days=days)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return text + certificate.public_bytes(serialization.Encoding.PEM)

    def unusual(self, kind: str) -> bytes:
        """Return a key and a certificate that the library refuses with an error of its own: one of UNUSUAL."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a host of tests")])
        numbers = {x509.ObjectIdentifier(f"1.2.3.{last}"): b"\5\0" for last in (4, 5)}
        names = b"\x30\x02\xa3\x00" if kind == "a name by X.400" else b"\x30\x03\x82\x01a"
        numbers[x509.OID_SUBJECT_ALTERNATIVE_NAME] = names
        builder = self._builder(name, key.public_key(), days=90)
        for oid, value in numbers.items():
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        der = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
        # The library makes neither; nobody looks at the signature.
        if kind == "an extension twice":
            der = der.replace(b"\6\3\x2a\3\5", b"\6\3\x2a\3\4", 1)
        elif kind == "a version of the future":
            der = der.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\5", 1)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return text + ssl.DER_cert_to_PEM_cert(der).encode()

    def context(self, *protocols: str) -> ssl.SSLContext:
        """Return what a client needs that trusts this CA."""
        context = ssl.create_default_context(cadata=self.text)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def _builder(self, name: x509.Name, key, *, days: int) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=days))
        )
