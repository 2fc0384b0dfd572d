"""What the certificates of the local CA and of the cluster's CA have in common."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from homeport import signing

UNTIL = signing.now() + dt.timedelta(days=1)


@pytest.fixture(scope="module")
def ca_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def ca(ca_key):
    name = signing.named("a CA")
    return signing.of_ca(name, ca_key.public_key(), UNTIL).sign(ca_key, hashes.SHA256())


def host(issuer, issuer_key, key):
    builder = signing.of_host(
        signing.named("a host"),
        key.public_key(),
        UNTIL,
        issuer=issuer.subject,
        issuer_key=issuer_key.public_key(),
    )
    names = x509.SubjectAlternativeName([x509.DNSName("a.test")])
    return builder.add_extension(names, critical=False).sign(issuer_key, hashes.SHA256())


def verified(ca, certificate, *between):
    verifier = PolicyBuilder().store(Store([ca])).build_server_verifier(x509.DNSName("a.test"))
    return verifier.verify(certificate, list(between))


def test_a_host_is_verified_by_its_ca_also_where_the_clock_is_late(ca, ca_key):
    certificate = host(ca, ca_key, ec.generate_private_key(ec.SECP256R1()))

    assert [certificate, ca] == verified(ca, certificate)
    assert certificate.not_valid_before_utc < signing.now() - signing.SKEW + dt.timedelta(minutes=5)


def test_a_host_cannot_sign_for_another(ca, ca_key):
    key = ec.generate_private_key(ec.SECP256R1())
    first = host(ca, ca_key, key)
    second = host(first, key, ec.generate_private_key(ec.SECP256R1()))

    with pytest.raises(VerificationError):
        verified(ca, second, first)


def test_a_ca_signs_hosts_and_no_other_ca(ca, ca_key):
    """One that lets the CA sign something for it cannot make certificates for everybody."""
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    other = (
        signing._begun(signing.named("another CA"), ca.subject, key.public_key(), UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(signing._usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = host(other, key, ec.generate_private_key(ec.SECP256R1()))

    with pytest.raises(VerificationError, match="path"):
        verified(ca, certificate, other)


def test_a_key_can_be_read_again_from_its_pem(ca_key):
    again = serialization.load_pem_private_key(signing.pem(ca_key), None)

    assert ca_key.private_numbers() == again.private_numbers()
